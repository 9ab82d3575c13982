"""The data set as resources of the catalog: each channel a container, each video its child."""
