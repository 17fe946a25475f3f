"""What commands share: options, messages, tables, amounts. None of these is a command."""
