"""What a namespace is allowed to do, written again as simply as possible, to judge the real one by."""
