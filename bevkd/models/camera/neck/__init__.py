"""Image necks by name (`camera.neck`): one file each, registered as `image_neck`."""
