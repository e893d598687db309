"""Virtual points (Yin et al., "Multimodal Virtual Point 3D Detection", NeurIPS 2021): pixels of 2D instance masks with
the depths of the LiDAR points among them.
"""
