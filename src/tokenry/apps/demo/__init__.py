"""What `tokenry demo` shows: the fate of one sentence, and the answers to all questions about one document."""
