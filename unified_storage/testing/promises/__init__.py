"""What every storage promises, one subject a file: classes of tests, named like promises."""
