/* Stand-in for TFLite Micro: see README.md. Sizes and answers come from the listener; the arena holds both tensors. */
#include "tensorflow/lite/micro/micro_interpreter.h"

extern "C" void stand_in_send(const void *bytes, size_t size);
extern "C" void stand_in_receive(void *bytes, size_t size);
extern "C" void port_write(const char *text);

namespace tflite {
#ifdef STAND_IN_NESTED
namespace micro {
#endif

MicroInterpreter::MicroInterpreter(const Model *, const MicroOpResolver &resolver, uint8_t *arena, size_t arena_bytes)
    : resolver_(resolver), arena_(arena), arena_bytes_(arena_bytes) {}

MicroInterpreter::~MicroInterpreter() {}

TfLiteStatus MicroInterpreter::AllocateTensors() {
    port_write("STAND-IN for TFLite Micro: it computes nothing, whoever listens answers\n");
    const uint32_t hello = resolver_.registered;
    uint32_t sizes[2];
    stand_in_send(&hello, sizeof(hello));
    stand_in_receive(sizes, sizeof(sizes));
    used_ = (sizes[0] + 15u) / 16u * 16u + sizes[1] + 2u * sizeof(TfLiteTensor);
    if (used_ > arena_bytes_)
        return kTfLiteError;
    input_ = reinterpret_cast<TfLiteTensor *>(arena_ + arena_bytes_) - 1; /* the project's arena is a multiple of 16 */
    output_ = input_ - 1;
    input_->data.data = arena_;
    input_->bytes = sizes[0];
    output_->data.data = arena_ + (sizes[0] + 15u) / 16u * 16u;
    output_->bytes = sizes[1];
    input_->type = output_->type = 0;
    return kTfLiteOk;
}

TfLiteStatus MicroInterpreter::Invoke() {
    stand_in_send(input_->data.data, input_->bytes);
    stand_in_receive(output_->data.data, output_->bytes);
    return kTfLiteOk;
}

#ifdef STAND_IN_NESTED
}  // namespace micro
#endif
}  // namespace tflite
