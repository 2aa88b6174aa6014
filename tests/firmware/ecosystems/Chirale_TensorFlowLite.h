/* Stand-in for the library that brings TFLite Micro to Arduino: an include, and nothing in it. */
