"""The forward pass in the parts that a scheduler may place: functions over the weights of one layer."""
