/* A stand-in for libcuda.so.1: the host's memory, and a clock that advances by what the stand-in for TensorRT states
   an inference takes: no choice hangs on how busy this machine is. No GPU, and no figure of one. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double now_ms, captured_ms;

void stand_in_takes(double ms) { now_ms += ms; }

int cuInit(unsigned flags) { return getenv("STAND_IN_NO_GPU") ? 100 : 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = context; return 0; }
int cuCtxSetCurrent(void *context) { return context ? 0 : 201; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "stand-in GPU"); return 0; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
  int major = 8, minor = 7;
  const char *text = getenv("STAND_IN_COMPUTE_CAPABILITY");
  if (text) sscanf(text, "%d.%d", &major, &minor);
  *value = attribute == 75 ? major : attribute == 76 ? minor : 0;
  return attribute == 75 || attribute == 76 ? 0 : 1;
}

int cuMemAlloc_v2(uint64_t *pointer, size_t size) { *pointer = (uint64_t)(uintptr_t)malloc(size); return 0; }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { memcpy((void *)(uintptr_t)to, from, size); return 0; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { memcpy(to, (void *)(uintptr_t)from, size); return 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); return 0; }
int cuStreamBeginCapture_v2(void *stream, int mode) { captured_ms = -now_ms; return 0; }
int cuStreamEndCapture(void *stream, void **graph) { captured_ms += now_ms; *graph = stream; return 0; }
int cuGraphInstantiateWithFlags(void **instance, void *graph, unsigned long long flags) { *instance = graph; return 0; }
int cuGraphLaunch(void *instance, void *stream) { now_ms += captured_ms; return instance && stream ? 0 : 1; }
int cuStreamSynchronize(void *stream) { return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = calloc(1, sizeof(double)); return 0; }
int cuEventRecord(double *event, void *stream) { *event = now_ms; return 0; }
int cuEventSynchronize(void *event) { return 0; }
int cuEventElapsedTime(float *ms, double *start, double *end) { *ms = (float)(*end - *start); return 0; }
