// Pictures of any size become one f32 tensor: scale, resize, normalise. One launch per batch.
//
// The GPU side of src/kernels/preprocess.rs, whose tests hold the same algorithm (their `direct`
// function) against the CPU twin. Formulas: see there. Compiles with NVRTC 13 for compute_90, but
// NOT YET LAUNCHED ON A GPU.
//
// Launch
//   grid   (ceil(out_width / blockDim.x), ceil(out_height / blockDim.y), images in the batch)
//   block  any two-dimensional shape, (32, 8) is meant
//   shared memory: none
//
// Arguments
//   sources     one descriptor per image, in device memory; `pixels` points to device memory that
//               holds height * width * 3 bytes, RGB interleaved, rows from the top
//   out         [images][3][out_height][out_width] f32, written completely
//   filter      0 bilinear (triangle), 1 bicubic (Keys, a = -0.5)
//   factor_*    rescale / std of the channel
//   bias_*      -mean / std of the channel
//
// Sizes are at least 1. No rounding to 8 bits, no clamping. Every index below fits the types: an
// image has at most 2^31 bytes (the decoder's limits are far lower), the output is indexed in 64
// bits.

struct Source {
    const unsigned char* pixels;
    int width;
    int height;
};

struct Window {
    int first;
    int end;
    float center;
    float stretch;
};

static __device__ __forceinline__ float weight_at(int filter, float x) {
    const float a = -0.5f;
    x = fabsf(x);
    if (filter == 0) {
        return x < 1.0f ? 1.0f - x : 0.0f;
    }
    if (x < 1.0f) {
        return ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
    }
    return x < 2.0f ? (((x - 5.0f) * x + 8.0f) * x - 4.0f) * a : 0.0f;
}

static __device__ __forceinline__ Window window_of(int filter, int input, int output, int i) {
    Window window;
    const float scale = __fdiv_rn((float)input, (float)output);
    window.stretch = fmaxf(scale, 1.0f);
    const float support = (filter == 0 ? 1.0f : 2.0f) * window.stretch;
    // Unfused on purpose: the twin rounds the product before it adds.
    window.center = __fmul_rn(scale, (float)i + 0.5f);
    window.first = min((int)fmaxf(window.center - support + 0.5f, 0.0f), input - 1);
    window.end = max(min((int)(window.center + support + 0.5f), input), window.first + 1);
    return window;
}

static __device__ __forceinline__ float weight_in(int filter, const Window& window, int j) {
    return weight_at(filter, __fdiv_rn((float)j - window.center + 0.5f, window.stretch));
}

extern "C" __global__ void preprocess_rgb8(const Source* __restrict__ sources,
                                           float* __restrict__ out, int out_height, int out_width,
                                           int filter, float factor_r, float factor_g,
                                           float factor_b, float bias_r, float bias_g,
                                           float bias_b) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_width || y >= out_height) {
        return;
    }
    const Source source = sources[blockIdx.z];
    const Window rows = window_of(filter, source.height, out_height, y);
    const Window columns = window_of(filter, source.width, out_width, x);

    float total_x = 0.0f;
    for (int j = columns.first; j < columns.end; ++j) {
        total_x += weight_in(filter, columns, j);
    }

    float r = 0.0f, g = 0.0f, b = 0.0f, total_y = 0.0f;
    for (int i = rows.first; i < rows.end; ++i) {
        const float row_weight = weight_in(filter, rows, i);
        total_y += row_weight;
        const unsigned char* pixel =
            source.pixels + ((long long)i * source.width + columns.first) * 3;
        for (int j = columns.first; j < columns.end; ++j, pixel += 3) {
            const float weight = row_weight * weight_in(filter, columns, j);
            r += weight * (float)pixel[0];
            g += weight * (float)pixel[1];
            b += weight * (float)pixel[2];
        }
    }

    const float whole = 1.0f / (total_y * total_x);
    const long long plane = (long long)out_height * out_width;
    float* target = out + (long long)blockIdx.z * 3 * plane + (long long)y * out_width + x;
    target[0] = r * whole * factor_r + bias_r;
    target[plane] = g * whole * factor_g + bias_g;
    target[2 * plane] = b * whole * factor_b + bias_b;
}
