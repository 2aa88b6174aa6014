/* Stand-in for Zephyr's console, so that a host compiles its main. */
void printk(const char *format, ...);
