// Runs one .tflite file through libLiteRt.so and prints what was measured as one line of JSON.
//
//   runner LIBRARY MODEL [--input FILE] [--output FILE] [--threads N] [--kernels xnnpack|builtin]
//          [--warmup N] [--warmup-seconds S] [--runs N] [--min-seconds S] [--max-seconds S] [--profile] [--marker]
//
// The file must have one signature. --input holds the raw bytes of its input, --output gets those of its answer, if
// it has one of each; without --input every input is filled with fixed pseudo-random values. Only the call that runs
// the network is timed: elapsed time (CLOCK_MONOTONIC) and processor time of all threads, in nanoseconds, one value a
// run, none dropped. Untimed runs come first, until there are --warmup of them and --warmup-seconds. Timed runs go on
// until there are --runs of them and --min-seconds of them, and end at --max-seconds.
// --profile also prints the operators with their times, and the runtime's own table of them to standard error; the
// times of such a run are not comparable. --marker surrounds each timed run with a system call that does not exist,
// by which an emulator's plugin knows where to count; an app's seccomp filter would kill the process for it.
//
// The library is opened at run time, and what is used of its C interface is declared below: neither its headers nor
// an NDK is needed. The declarations follow litert/c/*.h of google-ai-edge/LiteRT at the time of
// ai-edge-litert 2.3.0. On failure the line is {"error": ...} and the exit status 1; for wrong arguments 2.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MARKER_CALL = 0x7fc0, MARKER_BEGIN = 1, MARKER_END = 2 };  // insn_count.c has the same numbers

typedef void *Handle;
typedef int Status;  // 0 is success

typedef struct {  // LiteRtRankedTensorType, litert_model_types.h: 72 bytes
  int32_t element_type;
  uint32_t rank_and_strides;
  int32_t dimensions[8];
  uint32_t strides[8];
} TensorType;

typedef struct {  // ProfiledEventData, litert_profiler_event.h; two records of memory of 24 bytes each are not used
  const char *tag;
  int32_t type;
  uint64_t start_us, elapsed_us;
  uint64_t memory[6];
  uint64_t index, other;
  int32_t source;
} Event;

typedef struct {  // LiteRtEnvOption, litert_environment_options.h
  int32_t tag;
  struct {
    int32_t type;
    union {
      int64_t integer;
      const char *string;
    };
  } value;
} EnvironmentOption;

enum {
  CPU = 1,                     // kLiteRtHwAcceleratorCpu
  READ = 0,                    // kLiteRtTensorBufferLockModeRead
  WRITE = 1,                   // kLiteRtTensorBufferLockModeWrite
  ANY_INTEGER = 2,             // kLiteRtAnyTypeInt
  FLOAT32 = 1,                 // kLiteRtElementTypeFloat32
  MOST_TENSORS = 16,           // inputs, or outputs, that are taken
  REGISTER_ACCELERATORS = 24,  // kLiteRtEnvOptionTagAutoRegisterAccelerators
  LEAST_SEVERITY = 25,         // kLiteRtEnvOptionTagMinLoggerSeverity
  OPERATOR_EVENT = 2,          // an operator of the file that no delegate took
  DELEGATE_EVENT = 8,          // one of a delegate's own operators
};

#define API(X)                                                                                               \
  X(Status, LiteRtCreateEnvironment, (int, const EnvironmentOption *, Handle *))                             \
  X(Status, LiteRtCreateModelFromFile, (Handle environment, const char *, Handle *))                         \
  X(Status, LiteRtGetNumModelSignatures, (Handle model, size_t *))                                           \
  X(Status, LiteRtGetModelSignature, (Handle model, size_t, Handle *))                                       \
  X(Status, LiteRtGetNumSignatureInputs, (Handle signature, size_t *))                                       \
  X(Status, LiteRtGetNumSignatureOutputs, (Handle signature, size_t *))                                      \
  X(Status, LiteRtGetSignatureInputTensorByIndex, (Handle signature, size_t, Handle *))                      \
  X(Status, LiteRtGetSignatureOutputTensorByIndex, (Handle signature, size_t, Handle *))                     \
  X(Status, LiteRtGetRankedTensorType, (Handle tensor, TensorType *))                                        \
  X(Status, LiteRtCreateOptions, (Handle *))                                                                 \
  X(Status, LiteRtSetOptionsHardwareAccelerators, (Handle options, int))                                     \
  X(Status, LiteRtCreateOpaqueOptions, (const char *, void *, void (*)(void *), Handle *))                   \
  X(Status, LiteRtAddOpaqueOptions, (Handle options, Handle opaque))                                         \
  X(Status, LiteRtCreateCompiledModel, (Handle environment, Handle model, Handle options, Handle *))         \
  X(Status, LiteRtGetCompiledModelInputBufferRequirements, (Handle compiled, size_t, size_t, Handle *))      \
  X(Status, LiteRtGetCompiledModelOutputBufferRequirements, (Handle compiled, size_t, size_t, Handle *))     \
  X(Status, LiteRtCreateManagedTensorBufferFromRequirements, (Handle, const TensorType *, Handle, Handle *)) \
  X(Status, LiteRtGetTensorBufferPackedSize, (Handle buffer, size_t *))                                      \
  X(Status, LiteRtLockTensorBuffer, (Handle buffer, void **, int))                                           \
  X(Status, LiteRtUnlockTensorBuffer, (Handle buffer))                                                       \
  X(Status, LiteRtRunCompiledModel, (Handle compiled, size_t, size_t, Handle *, size_t, Handle *))           \
  X(Status, LiteRtCompiledModelIsFullyAccelerated, (Handle compiled, bool *))                                \
  X(Status, LiteRtCompiledModelGetProfiler, (Handle compiled, Handle *))                                     \
  X(Status, LiteRtStartProfiler, (Handle profiler))                                                          \
  X(Status, LiteRtStopProfiler, (Handle profiler))                                                           \
  X(Status, LiteRtGetNumProfilerEvents, (Handle profiler, int *))                                            \
  X(Status, LiteRtGetProfilerEvents, (Handle profiler, int, Event *))                                        \
  X(Status, LiteRtGetProfileSummary, (Handle profiler, Handle compiled, const char **))

#define DECLARE(type, name, parameters) static type(*name) parameters;
API(DECLARE)

static struct {
  const char *library, *model, *input, *output, *kernels;
  long threads, warmup, runs;
  double warmup_seconds, min_seconds, max_seconds;
  bool profile, marker;
} options = {.kernels = "xnnpack", .threads = 1, .warmup = 10, .runs = 100, .min_seconds = 1, .max_seconds = 150};

static void print_string(const char *text) {
  putchar('"');
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\') {
      printf("\\%c", *c);
    } else if (*c < 0x20 || *c == 0x7f) {
      printf("\\u%04x", *c);
    } else {
      putchar(*c);
    }
  }
  putchar('"');
}

static void fail(int code, const char *format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  printf("{\"error\": ");
  print_string(message);
  printf("}\n");
  fflush(stdout);
  _exit(code);  // the library's threads may still run: no destructors
}

// LiteRtStatus, litert_common.h; LiteRtGetStatusString is not exported.
static const char *status_name(Status status) {
  switch (status) {
    case 1:
      return "invalid argument";
    case 2:
      return "no memory";
    case 3:
      return "runtime failure";
    case 4:
      return "missing input tensor";
    case 5:
      return "unsupported";
    case 6:
      return "not found";
    case 8:
      return "wrong version";
    case 500:
      return "the file cannot be read";
    case 501:
      return "not a TFLite model";
    case 502:
      return "dynamic loading";
    case 504:
      return "compilation";
    default:
      return "see the log";
  }
}

static void check(Status status, const char *call) {
  if (status != 0) fail(1, "%s failed with status %d (%s)", call, status, status_name(status));
}

#define CHECK(call, ...) check(call(__VA_ARGS__), #call)

static int64_t now_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static long peak_memory_kb(void) {
  FILE *status = fopen("/proc/self/status", "r");
  long kb = -1;
  char line[256];
  while (status && kb < 0 && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld kB", &kb);
  if (status) fclose(status);
  return kb;
}

// The cores that the process may run on, bit 0 for core 0: what was asked for, less what the system does not grant.
static uint64_t cores_in_force(void) {
  cpu_set_t set;
  uint64_t mask = 0;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set)) return 0;
  for (int core = 0; core < 64; core++)
    if (CPU_ISSET(core, &set)) mask |= (uint64_t)1 << core;
  return mask;
}

static long whole(const char *name, const char *text, long least) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno || *end || end == text || value < least) {
    fail(2, "%s must be a whole number of at least %ld, not %s", name, least, text);
  }
  return value;
}

static double seconds(const char *name, const char *text) {
  char *end;
  double value = strtod(text, &end);
  if (*end || end == text || !(value >= 0) || value > 1e6)
    fail(2, "%s must be seconds, 0 or more, not %s", name, text);
  return value;
}

static void parse(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (!strcmp(name, "--profile")) {
      options.profile = true;
      continue;
    }
    if (!strcmp(name, "--marker")) {
      options.marker = true;
      continue;
    }
    if (strncmp(name, "--", 2)) {
      const char **place = !options.library ? &options.library : !options.model ? &options.model : NULL;
      if (!place) fail(2, "one argument too many: %s", name);
      *place = name;
      continue;
    }
    if (i + 1 == argc) fail(2, "%s needs a value", name);
    const char *value = argv[++i];
    if (!strcmp(name, "--input")) {
      options.input = value;
    } else if (!strcmp(name, "--output")) {
      options.output = value;
    } else if (!strcmp(name, "--kernels")) {
      options.kernels = value;
    } else if (!strcmp(name, "--threads")) {
      options.threads = whole(name, value, 1);
    } else if (!strcmp(name, "--warmup")) {
      options.warmup = whole(name, value, 0);
    } else if (!strcmp(name, "--warmup-seconds")) {
      options.warmup_seconds = seconds(name, value);
    } else if (!strcmp(name, "--runs")) {
      options.runs = whole(name, value, 1);
    } else if (!strcmp(name, "--min-seconds")) {
      options.min_seconds = seconds(name, value);
    } else if (!strcmp(name, "--max-seconds")) {
      options.max_seconds = seconds(name, value);
    } else {
      fail(2, "no option %s", name);
    }
  }
  if (!options.library || !options.model) fail(2, "needed: LIBRARY MODEL");
  if (strcmp(options.kernels, "xnnpack") && strcmp(options.kernels, "builtin")) {
    fail(2, "--kernels must be xnnpack or builtin, not %s", options.kernels);
  }
}

static void open_library(void) {
  void *library = dlopen(options.library, RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(1, "the library does not load: %s", dlerror());
#define RESOLVE(type, name, parameters) \
  if (!(*(void **)&name = dlsym(library, #name))) fail(1, "the library has no " #name);
  API(RESOLVE)
}

// Options reach the runtime as TOML under an identifier; it takes ownership of the text.
static void add_options(Handle to, const char *identifier, const char *toml) {
  Handle opaque;
  CHECK(LiteRtCreateOpaqueOptions, identifier, strdup(toml), free, &opaque);
  CHECK(LiteRtAddOpaqueOptions, to, opaque);
}

static void read_input(Handle buffer) {
  size_t size, got;
  void *memory;
  CHECK(LiteRtGetTensorBufferPackedSize, buffer, &size);
  FILE *file = fopen(options.input, "rb");
  if (!file) fail(1, "%s cannot be read: %s", options.input, strerror(errno));
  CHECK(LiteRtLockTensorBuffer, buffer, &memory, WRITE);
  got = fread(memory, 1, size, file);
  if (got != size || fgetc(file) != EOF) fail(1, "%s must have %zu bytes, the input's", options.input, size);
  fclose(file);
  CHECK(LiteRtUnlockTensorBuffer, buffer);
}

// Uniform in [-1, 1) for float32, else every byte alike; the same on every machine.
static void fill_input(Handle buffer, const TensorType *type) {
  size_t size;
  void *memory;
  uint32_t state = 1;
  CHECK(LiteRtGetTensorBufferPackedSize, buffer, &size);
  CHECK(LiteRtLockTensorBuffer, buffer, &memory, WRITE);
  for (size_t i = 0; i < (type->element_type == FLOAT32 ? size / 4 : size); i++) {
    state = state * 1664525u + 1013904223u;  // Numerical Recipes, section 7.1
    if (type->element_type == FLOAT32) {
      ((float *)memory)[i] = (float)(state >> 8) / (1 << 23) - 1;
    } else {
      ((uint8_t *)memory)[i] = state >> 24;
    }
  }
  CHECK(LiteRtUnlockTensorBuffer, buffer);
}

static void write_output(Handle buffer) {
  char temporary[4096];
  size_t size;
  void *memory;
  if (snprintf(temporary, sizeof temporary, "%s.tmp", options.output) >= (int)sizeof temporary) {
    fail(1, "--output is too long");
  }
  CHECK(LiteRtGetTensorBufferPackedSize, buffer, &size);
  CHECK(LiteRtLockTensorBuffer, buffer, &memory, READ);
  FILE *file = fopen(temporary, "wb");
  bool written = file && fwrite(memory, 1, size, file) == size;
  if (file && fclose(file)) written = false;
  if (!written || rename(temporary, options.output))
    fail(1, "%s cannot be written: %s", options.output, strerror(errno));
  CHECK(LiteRtUnlockTensorBuffer, buffer);
}

static void print_samples(const char *name, const int64_t *samples, long count) {
  printf("\"%s\": [", name);
  for (long i = 0; i < count; i++) printf("%s%lld", i ? ", " : "", (long long)samples[i]);
  printf("], ");
}

// The operators that ran, in order, as [name, whether a delegate's, index, us]; a delegate counts from 0 in each
// piece.
static void print_events(Handle profiler) {
  int count;
  CHECK(LiteRtGetNumProfilerEvents, profiler, &count);
  Event *events = calloc(count + 1, sizeof *events);
  if (!events) fail(1, "no memory for %d events", count);
  memset(&events[count], 0xee, sizeof *events);
  Event untouched = events[count];
  CHECK(LiteRtGetProfilerEvents, profiler, count, events);
  if (memcmp(&untouched, &events[count], sizeof untouched) || (count && !events[count - 1].tag)) {
    fail(1, "this library has other profile events than that of ai-edge-litert 2.3.0");
  }
  printf("\"events\": [");
  const char *separator = "";
  for (int i = 0; i < count; i++) {
    if (events[i].type != OPERATOR_EVENT && events[i].type != DELEGATE_EVENT) continue;
    printf("%s[", separator);
    print_string(events[i].tag);
    printf(", %s, %llu, %llu]", events[i].type == DELEGATE_EVENT ? "true" : "false",
           (unsigned long long)events[i].index, (unsigned long long)events[i].elapsed_us);
    separator = ", ";
  }
  printf("], ");
}

int main(int argc, char **argv) {
  parse(argc, argv);
  int64_t start = now_ns(CLOCK_MONOTONIC);
  open_library();
  Handle environment, model, signature, compile_options, compiled, tensor, requirements, profiler;
  Handle input[MOST_TENSORS], output[MOST_TENSORS];
  TensorType input_type[MOST_TENSORS], output_type[MOST_TENSORS];
  const EnvironmentOption environment_options[] = {
      {LEAST_SEVERITY, {ANY_INTEGER, {.integer = 0}}},  // all it says, that XNNPACK's part can be seen
      {REGISTER_ACCELERATORS, {ANY_INTEGER, {.integer = CPU}}},
  };
  CHECK(LiteRtCreateEnvironment, 2, environment_options, &environment);
  int64_t opened = now_ns(CLOCK_MONOTONIC);
  CHECK(LiteRtCreateModelFromFile, environment, options.model, &model);
  int64_t loaded = now_ns(CLOCK_MONOTONIC);

  size_t signatures, inputs, outputs;
  CHECK(LiteRtGetNumModelSignatures, model, &signatures);
  if (signatures != 1) fail(1, "the model has %zu signatures instead of 1", signatures);
  CHECK(LiteRtGetModelSignature, model, 0, &signature);
  CHECK(LiteRtGetNumSignatureInputs, signature, &inputs);
  CHECK(LiteRtGetNumSignatureOutputs, signature, &outputs);
  if (inputs > MOST_TENSORS || outputs > MOST_TENSORS)
    fail(1, "the model has more than %d inputs or outputs", MOST_TENSORS);
  if ((options.input && inputs != 1) || (options.output && outputs != 1)) {
    fail(1, "the model has %zu inputs and %zu outputs; --input and --output are for one of each", inputs, outputs);
  }
  for (size_t i = 0; i < inputs; i++) {
    CHECK(LiteRtGetSignatureInputTensorByIndex, signature, i, &tensor);
    CHECK(LiteRtGetRankedTensorType, tensor, &input_type[i]);
  }
  for (size_t i = 0; i < outputs; i++) {
    CHECK(LiteRtGetSignatureOutputTensorByIndex, signature, i, &tensor);
    CHECK(LiteRtGetRankedTensorType, tensor, &output_type[i]);
  }

  int64_t compile_start = now_ns(CLOCK_MONOTONIC);
  char toml[128];
  CHECK(LiteRtCreateOptions, &compile_options);
  CHECK(LiteRtSetOptionsHardwareAccelerators, compile_options, CPU);
  snprintf(toml, sizeof toml, "kernel_mode = \"%s\"\nnum_threads = %ld\n", options.kernels, options.threads);
  add_options(compile_options, "xnnpack", toml);
  snprintf(toml, sizeof toml, "enable_profiling = %s\nerror_reporter_mode = 1\n", options.profile ? "true" : "false");
  add_options(compile_options, "runtime_options_string", toml);
  CHECK(LiteRtCreateCompiledModel, environment, model, compile_options, &compiled);
  for (size_t i = 0; i < inputs; i++) {
    CHECK(LiteRtGetCompiledModelInputBufferRequirements, compiled, 0, i, &requirements);
    CHECK(LiteRtCreateManagedTensorBufferFromRequirements, environment, &input_type[i], requirements, &input[i]);
  }
  for (size_t i = 0; i < outputs; i++) {
    CHECK(LiteRtGetCompiledModelOutputBufferRequirements, compiled, 0, i, &requirements);
    CHECK(LiteRtCreateManagedTensorBufferFromRequirements, environment, &output_type[i], requirements, &output[i]);
  }
  int64_t compiled_at = now_ns(CLOCK_MONOTONIC);
  for (size_t i = 0; i < inputs; i++) {
    if (options.input) {
      read_input(input[i]);
    } else {
      fill_input(input[i], &input_type[i]);
    }
  }

  int64_t first_start = now_ns(CLOCK_MONOTONIC);
  CHECK(LiteRtRunCompiledModel, compiled, 0, inputs, input, outputs, output);
  int64_t first_end = now_ns(CLOCK_MONOTONIC);
  long warmups = 0;
  while (warmups < options.warmup || now_ns(CLOCK_MONOTONIC) - first_end < options.warmup_seconds * 1e9) {
    CHECK(LiteRtRunCompiledModel, compiled, 0, inputs, input, outputs, output);
    warmups++;
  }

  if (options.profile) {
    CHECK(LiteRtCompiledModelGetProfiler, compiled, &profiler);
    CHECK(LiteRtStartProfiler, profiler);
  }
  uint64_t cores_before = cores_in_force();
  long count = 0, room = 0;
  int64_t *wall = NULL, *process = NULL, total = 0;
  if (options.marker) {  // one pair around nothing: what the pair itself costs
    syscall(MARKER_CALL, MARKER_BEGIN);
    syscall(MARKER_CALL, MARKER_END);
  }
  while (count == 0 ||
         (total < options.max_seconds * 1e9 && (count < options.runs || total < options.min_seconds * 1e9))) {
    if (count == room) {
      room = room ? 2 * room : 1024;
      wall = realloc(wall, room * sizeof *wall);
      process = realloc(process, room * sizeof *process);
      if (!wall || !process) fail(1, "no memory for %ld samples", room);
    }
    int64_t process_start = now_ns(CLOCK_PROCESS_CPUTIME_ID), wall_start = now_ns(CLOCK_MONOTONIC);
    if (options.marker) syscall(MARKER_CALL, MARKER_BEGIN);
    Status status = LiteRtRunCompiledModel(compiled, 0, inputs, input, outputs, output);
    if (options.marker) syscall(MARKER_CALL, MARKER_END);
    wall[count] = now_ns(CLOCK_MONOTONIC) - wall_start;
    process[count] = now_ns(CLOCK_PROCESS_CPUTIME_ID) - process_start;
    check(status, "LiteRtRunCompiledModel");
    total += wall[count++];
  }
  const char *summary = NULL;
  if (options.profile) {
    CHECK(LiteRtStopProfiler, profiler);
    CHECK(LiteRtGetProfileSummary, profiler, compiled, &summary);
    if (summary) fputs(summary, stderr);
  }
  bool whole_model = false;
  CHECK(LiteRtCompiledModelIsFullyAccelerated, compiled, &whole_model);
  if (options.output) write_output(output[0]);

  printf("{\"kernels\": \"%s\", \"threads\": %ld, \"warmup\": %ld, ", options.kernels, options.threads,
         warmups);
  printf("\"cores_before\": \"%llx\", \"cores\": \"%llx\", ", (unsigned long long)cores_before,
         (unsigned long long)cores_in_force());
  printf("\"open_ms\": %.6f, \"load_ms\": %.6f, ", (opened - start) / 1e6, (loaded - opened) / 1e6);
  printf("\"compile_ms\": %.6f, ", (compiled_at - compile_start) / 1e6);
  printf("\"first_ms\": %.6f, ", (first_end - first_start) / 1e6);
  print_samples("wall_ns", wall, count);
  print_samples("process_ns", process, count);
  if (options.profile) print_events(profiler);
  printf("\"fully_accelerated\": %s, \"peak_memory_kb\": %ld}\n", whole_model ? "true" : "false", peak_memory_kb());
  fflush(stdout);
  _exit(0);  // the library's threads may still run: no destructors
}
