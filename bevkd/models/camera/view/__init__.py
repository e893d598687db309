"""View transforms by name (`camera.view.kind`): one file each, registered as `view_transform`."""
