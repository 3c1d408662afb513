"""Sizes of the Stable Diffusion families in diffusers, and models of them with cheap random weights."""

import torch

SD1 = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
SDXL = dict(
    sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2, cross_attention_dim=2048,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10), use_linear_projection=True,
    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)  # fmt: skip
UNETS = {"sd1": SD1, "sdxl": SDXL}
VAE = dict(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)  # fmt: skip
CLIP = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768)  # SD 1
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def filled(make, dtype):
    """A model without the minutes that its own initialisation takes: kernels N(0, 1 / fan in) from one repeated block."""
    with torch.device("meta"):
        model = make()
    model = model.to(dtype).to_empty(device="cpu")
    block = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.fill_(0 if name.endswith("bias") else 1)
            else:
                scale = 0.05 if "embedding.weight" in name else p[0].numel() ** -0.5
                p.copy_((block * scale).to(dtype).repeat(p.numel() // len(block) + 1)[: p.numel()].view(p.shape))
        for name, buffer in model.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return model.eval()
