"""One machine as a platform: servers are processes, volumes are files, images are unpacked bundles of software."""
