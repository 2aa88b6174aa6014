/* Stand-in: a tree of TFLite Micro has this file; nothing of it is used here. */
