"""Images and boxes from their file to the network input: resizing, cropping, color, augmentation."""
