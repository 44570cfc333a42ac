"""What every engine promises under load, faults and size, written once and run on each."""
