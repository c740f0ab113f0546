"""Scan, pick and place: from images and depth to objects, grasps and the order in which things are done."""
