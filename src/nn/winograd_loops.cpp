#include "nn/winograd_loops.h"

#include "core/clones.h"

namespace emulsion::nn::winograd {

EMULSION_CLONES void transform_input(const float* const* d, int64_t channels, float* v, int64_t stride) {
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    float t[4][4];
    for (int j = 0; j < 4; ++j) {
      const float d0 = d[j][c], d1 = d[4 + j][c], d2 = d[8 + j][c], d3 = d[12 + j][c];
      t[0][j] = d0 - d2;
      t[1][j] = d1 + d2;
      t[2][j] = d2 - d1;
      t[3][j] = d1 - d3;
    }
    for (int i = 0; i < 4; ++i) {
      v[(4 * i + 0) * stride + c] = t[i][0] - t[i][2];
      v[(4 * i + 1) * stride + c] = t[i][1] + t[i][2];
      v[(4 * i + 2) * stride + c] = t[i][2] - t[i][1];
      v[(4 * i + 3) * stride + c] = t[i][1] - t[i][3];
    }
  }
}

EMULSION_CLONES void transform_output(const float* m, int64_t stride, int64_t channels, const float* bias, float* const* y) {
  float *const y0 = y[0], *const y1 = y[1], *const y2 = y[2], *const y3 = y[3];
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    float t[2][4];
    for (int j = 0; j < 4; ++j) {
      const float m0 = m[j * stride + c], m1 = m[(4 + j) * stride + c];
      const float m2 = m[(8 + j) * stride + c], m3 = m[(12 + j) * stride + c];
      t[0][j] = m0 + m1 + m2;
      t[1][j] = m1 - m2 - m3;
    }
    y0[c] = t[0][0] + t[0][1] + t[0][2] + bias[c];
    y1[c] = t[0][1] - t[0][2] - t[0][3] + bias[c];
    y2[c] = t[1][0] + t[1][1] + t[1][2] + bias[c];
    y3[c] = t[1][1] - t[1][2] - t[1][3] + bias[c];
  }
}

EMULSION_CLONES void transform_output_gradient(const float* const* dy, int64_t channels, float* dm, int64_t stride) {
  const float *const y0 = dy[0], *const y1 = dy[1], *const y2 = dy[2], *const y3 = dy[3];
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    float t[4][2];
    const float top[2] = {y0[c], y1[c]}, bottom[2] = {y2[c], y3[c]};
    for (int j = 0; j < 2; ++j) {
      t[0][j] = top[j];
      t[1][j] = top[j] + bottom[j];
      t[2][j] = top[j] - bottom[j];
      t[3][j] = -bottom[j];
    }
    for (int i = 0; i < 4; ++i) {
      dm[(4 * i + 0) * stride + c] = t[i][0];
      dm[(4 * i + 1) * stride + c] = t[i][0] + t[i][1];
      dm[(4 * i + 2) * stride + c] = t[i][0] - t[i][1];
      dm[(4 * i + 3) * stride + c] = -t[i][1];
    }
  }
}

EMULSION_CLONES void transform_weight(const float* g, int64_t channels, float* u, int64_t stride) {
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    float t[4][3];
    for (int j = 0; j < 3; ++j) {
      const float g0 = g[j * channels + c], g1 = g[(3 + j) * channels + c], g2 = g[(6 + j) * channels + c];
      t[0][j] = g0;
      t[1][j] = 0.5f * (g0 + g1 + g2);
      t[2][j] = 0.5f * (g0 - g1 + g2);
      t[3][j] = g2;
    }
    for (int i = 0; i < 4; ++i) {
      u[(4 * i + 0) * stride + c] = t[i][0];
      u[(4 * i + 1) * stride + c] = 0.5f * (t[i][0] + t[i][1] + t[i][2]);
      u[(4 * i + 2) * stride + c] = 0.5f * (t[i][0] - t[i][1] + t[i][2]);
      u[(4 * i + 3) * stride + c] = t[i][2];
    }
  }
}

EMULSION_CLONES void transform_weight_gradient(const float* du, int64_t stride, int64_t channels, float* dg) {
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    float t[3][4];
    for (int j = 0; j < 4; ++j) {
      const float u0 = du[j * stride + c], u1 = du[(4 + j) * stride + c];
      const float u2 = du[(8 + j) * stride + c], u3 = du[(12 + j) * stride + c];
      t[0][j] = u0 + 0.5f * (u1 + u2);
      t[1][j] = 0.5f * (u1 - u2);
      t[2][j] = 0.5f * (u1 + u2) + u3;
    }
    for (int i = 0; i < 3; ++i) {
      dg[(3 * i + 0) * channels + c] = t[i][0] + 0.5f * (t[i][1] + t[i][2]);
      dg[(3 * i + 1) * channels + c] = 0.5f * (t[i][1] - t[i][2]);
      dg[(3 * i + 2) * channels + c] = 0.5f * (t[i][1] + t[i][2]) + t[i][3];
    }
  }
}

}  // namespace emulsion::nn::winograd
