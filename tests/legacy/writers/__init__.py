"""Programs that write to a store with the library that it is of, as applications do, until their input ends."""
