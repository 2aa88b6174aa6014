/* QEMU TCG plugin: how many guest instructions ran so far, one line for each mark that the guest makes.
 *
 * A guest marks with a system call that does nothing else (getppid); its number is the plugin's argument `mark=`,
 * the file that takes the lines is `out=`. Counts are exact: every translated block adds its number of instructions
 * each time it is executed.
 *
 * The entry points below are the same in every version of the plugin API so far, which is why a call for each block
 * is used and not the (faster) inline addition, whose interface changed with version 2. QEMU reads the symbol
 * `qemu_plugin_version` and refuses what it does not know, so the library is built once with -DAPI=1 (QEMU before 9)
 * and once with -DAPI=2. They are declared here since distributions ship QEMU without qemu-plugin.h.
 * Interface: QEMU documentation, "QEMU TCG Plugins".
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block;
enum flags { NO_REGISTERS };

typedef void on_execute(unsigned vcpu, void *data);
typedef void on_translate(plugin_id id, struct block *block);
typedef void on_syscall(plugin_id id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                        uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

size_t qemu_plugin_tb_n_insns(const struct block *block);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, on_translate *call);
void qemu_plugin_register_vcpu_tb_exec_cb(struct block *block, on_execute *call, enum flags flags, void *data);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, on_syscall *call);

int qemu_plugin_version = API;

static uint64_t executed;
static int64_t mark = -1;
static FILE *out;

static void count(unsigned vcpu, void *num_instructions) {
  (void)vcpu;
  __atomic_fetch_add(&executed, (uint64_t)(uintptr_t)num_instructions, __ATOMIC_RELAXED);
}

static void translated(plugin_id id, struct block *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(block, count, NO_REGISTERS, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                   uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)vcpu, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != mark) return;
  fprintf(out, "%" PRIu64 "\n", __atomic_load_n(&executed, __ATOMIC_RELAXED));
  fflush(out);
}

int qemu_plugin_install(plugin_id id, const void *qemu, int argc, char **argv) {
  (void)qemu;
  for (int i = 0; i < argc; i++) {
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!strncmp(argv[i], "mark=", 5)) mark = atoll(argv[i] + 5);
  }
  if (!out || mark < 0) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
