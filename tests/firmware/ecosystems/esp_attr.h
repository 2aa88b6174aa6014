/* Of ESP-IDF, as with CONFIG_SPIRAM_ALLOW_BSS_SEG_EXTERNAL_MEMORY. */
#define EXT_RAM_BSS_ATTR __attribute__((section(".ext_ram.bss")))
