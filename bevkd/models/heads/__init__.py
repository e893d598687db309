"""Detection heads by name (`head.kind`): one file each, registered as `head`."""
