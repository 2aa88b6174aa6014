/* Stand-in for TFLite Micro: see README.md. */
#ifndef STAND_IN_INTERPRETER_H
#define STAND_IN_INTERPRETER_H

#include <stddef.h>
#include <stdint.h>

#include "tensorflow/lite/schema/schema_generated.h"

#define TFLITE_SCHEMA_VERSION (3)

namespace tflite {
#ifdef STAND_IN_NESTED
namespace micro {
#endif

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

union TfLitePtrUnion {
    int8_t *int8;
    void *data;
};

/* As in TFLite Micro the build decides how a tensor is laid out: program and library must agree. */
#ifdef TF_LITE_STATIC_MEMORY
struct TfLiteTensor {
    TfLitePtrUnion data;
    size_t bytes;
    int type;
};
#else
struct TfLiteTensor {
    int type;
    TfLitePtrUnion data;
    size_t bytes;
};
#endif

class MicroOpResolver {
  public:
    unsigned registered = 0;
};

class MicroInterpreter {
  public:
    MicroInterpreter(const Model *model, const MicroOpResolver &resolver, uint8_t *arena, size_t arena_bytes);
    ~MicroInterpreter();
    TfLiteStatus AllocateTensors();
    TfLiteStatus Invoke();
    TfLiteTensor *input(size_t) { return input_; }
    TfLiteTensor *output(size_t) { return output_; }
    size_t arena_used_bytes() const { return used_; }

  private:
    const MicroOpResolver &resolver_;
    uint8_t *arena_;
    size_t arena_bytes_, used_ = 0;
    TfLiteTensor *input_ = nullptr, *output_ = nullptr; /* at the end of the arena */
};

#ifdef STAND_IN_NESTED
}  // namespace micro
#endif
}  // namespace tflite

#endif
