// Drawing from a picture: image to image, and inpainting.
#pragma once

#include <string>

#include "core/tensor.h"
#include "generate/encode.h"
#include "models/model.h"

namespace emulsion::generate {

/// A picture to start from, and where to draw.
struct Source {
  Tensor picture = {};     // uint8 [H, W, 3]; undefined: none, the drawing starts from noise
  Tensor mask = {};        // uint8 [H, W]: 0 keeps a pixel, 255 draws it anew; undefined: everything is drawn
  double strength = 0;     // above 0 to 1: the share of the steps that are taken; 0: the default
  std::string name = {}, mask_name = {};  // of the files, for infotext

  bool given() const { return picture.defined(); }
};

/// Brings the picture and mask to a size (pixels; 0: the picture's own, which is written back) and fills in the strength: 0.75,
/// or 1 with a mask and a model made for inpainting.
/// Throws: Error{shape} if sizes or proportions differ, Error{config} for a strength out of range, a mask without a picture,
/// or one that leaves nothing to draw.
void resolve_source(Source& source, int64_t& width, int64_t& height, const models::Model& model);

/// Whether the U-Net reads a mask and the masked picture beside the noisy latents.
bool is_inpainting(const models::Model& model);

/// Height or width in latents that holds so many pixels; those that are left over are cut off at the end.
int64_t latent_size(int64_t pixels, int64_t factor);

/// The picture in the scale of the U-Net. `eps` [B, z, h, w] chooses the latent within what the autoencoder thinks possible;
/// undefined: its mean. Returns [B or 1, z, h, w] float32.
Tensor picture_latents(const models::Model& model, const Source& source, const Tensor& eps, Tiling tiling);

/// 1 where latents are drawn, 0 where they are kept: [1, 1, h, w] float32. As diffusers, the upper left pixel of a latent's
/// square says which, and it is drawn from half on.
Tensor latent_mask(const Tensor& mask, int64_t factor);

/// What an inpainting model reads beside x_t: mask, then the latents of the picture with grey where it is drawn anew. Without
/// a picture everything is. `eps` as above. Returns [B or 1, 1 + z, h, w] float32.
Tensor inpainting_channels(const models::Model& model, const Source& source, int64_t width, int64_t height,
                           const Tensor& eps);

/// Pictures uint8 [B, H', W', 3] as they are handed out: cut to the source's size, kept pixels put back as they were.
Tensor put_back(const Source& source, const Tensor& pictures);

}  // namespace emulsion::generate
