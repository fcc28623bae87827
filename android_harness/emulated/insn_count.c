// A plugin of QEMU's user-mode emulation that counts instructions between two marks of the program.
//
//   qemu-aarch64 -plugin ./insn_count.so,out=FILE ...
//
// A mark is the system call MARKER_CALL, which no kernel has, with MARKER_BEGIN or MARKER_END as its argument;
// runner.c issues them with --marker. Each pair gives one line of FILE: the number of guest instructions executed
// between, by all threads. Instructions are added up block by block; a system call ends its block, so both ends are
// exact. Adding is not atomic: with more than one thread at work the numbers are not exact.
//
// The prototypes are those of qemu-plugin.h, plugin interface version 1 (QEMU 7.2), which Debian does not package.

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { MARKER_CALL = 0x7fc0, MARKER_BEGIN = 1, MARKER_END = 2 };  // runner.c has the same numbers

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*tb_translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*system_call)(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2,
                            uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_translated callback);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, system_call callback);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, enum qemu_plugin_op op,
                                                     void *place, uint64_t amount);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);

EXPORT int qemu_plugin_version = 1;

static uint64_t executed;
static uint64_t begun;
static bool inside;
static FILE *out;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed,
                                           qemu_plugin_tb_n_insns(block));
}

static void called(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t what, uint64_t a2, uint64_t a3,
                   uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != MARKER_CALL) return;
  if (what == MARKER_BEGIN) {
    begun = executed;
    inside = true;
  } else if (what == MARKER_END && inside) {
    fprintf(out, "%" PRIu64 "\n", executed - begun);
    fflush(out);
    inside = false;
  }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
  }
  if (!out) {
    fprintf(stderr, "insn_count: give out=FILE, a file that can be written\n");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
