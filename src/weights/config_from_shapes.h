// Architectures told from the shapes of a checkpoint's tensors.
//
// What shapes do not show (heads, epsilons, scaling factors) comes from `like`, the row of the family that the file is
// nearest to; a config that agrees with it in all that shapes show is that row, unchanged.
#pragma once

#include "weights/part_places.h"

namespace emulsion::weights {

/// Of a U-Net in LDM's names. Throws: Error{format} naming the tensor that is lacking.
models::UNetConfig unet_config_from_shapes(const PartTensors& tensors, const models::UNetConfig& like);

/// Of an autoencoder in any naming.
models::VaeConfig vae_config_from_shapes(const PartTensors& tensors, Naming naming, const models::VaeConfig& like);

/// Of a text encoder in any naming. Layers beyond those of `like` are left out if the width is the same: SD 2 reads the
/// state before the last.
models::ClipTextConfig clip_config_from_shapes(const PartTensors& tensors, Naming naming,
                                               const models::ClipTextConfig& like);

}  // namespace emulsion::weights
