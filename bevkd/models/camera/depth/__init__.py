"""Depth nets by name (`camera.depth_net.kind`): one file each, registered as `depth_net`."""
