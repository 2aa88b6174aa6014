/* Stand-in for Arduino's core, so that a host compiles its sketch. */
struct Console {
    void begin(long baud);
    void print(const char *text);
    explicit operator bool() const;
};
extern Console Serial;
