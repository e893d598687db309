"""nuImages: single images with 2D boxes and masks."""
