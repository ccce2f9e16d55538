"""Tables, figures and numbers drawn from the records."""
