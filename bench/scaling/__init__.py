"""What several devices do in a step of training, what it costs to join them, and when that pays."""
