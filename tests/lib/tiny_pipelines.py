"""diffusers' pipelines of a few random weights, made of configurations alone: nothing is downloaded."""

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["[PAD]", "[UNK]", "[EOS]", "red", "green", "blue", "circle", "square", "a", "photo", "of"]
NEWER = {"FLUX.2": "Flux2KleinPipeline", "FLUX.2 dev": "Flux2Pipeline", "Qwen-Image": "QwenImagePipeline"}
"""Those that an older diffusers does not have, by the class of each."""
KINDS = (
    "SDXL",
    "SD",
    "FLUX",
    "SD3",
    "Z-Image",
    *(k for k, name in NEWER.items() if hasattr(diffusers, name)),
)
SCALES = {
    "SDXL": (4, 0.13025, None),
    "SD": (4, 0.18215, None),
    "FLUX": (16, 0.3611, 0.1159),
    "SD3": (16, 1.5305, 0.0609),
    "Z-Image": (16, 0.3611, 0.1159),
    "FLUX.2": (128, None, None),
    "FLUX.2 dev": (128, None, None),
    "Qwen-Image": (16, None, None),
}
SIDE = 64
"""Pixels: 8 x 8 cells."""


def pipeline(kind, seed=0):
    """A pipeline of that kind; the same for the same seed."""
    torch.manual_seed(seed)
    makers = {"SDXL": _sdxl, "SD": _sd, "FLUX": _flux, "SD3": _sd3, "Z-Image": _z_image}
    newer = {"FLUX.2": _flux2, "FLUX.2 dev": _flux2_dev, "Qwen-Image": _qwen_image}
    made = newer[kind]() if kind in newer else makers[kind](_vae(kind))
    made.set_progress_bar_config(disable=True)
    return made


def _vae(kind):
    channels, scale, shift = SCALES[kind]
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return diffusers.AutoencoderKL(
        **blocks,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=channels,
        scaling_factor=scale,
        shift_factor=shift,
        sample_size=SIDE,
    )


def _tokenizer():
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        pad_token="[PAD]",
        eos_token="[EOS]",
        model_max_length=8,
        chat_template="{{ messages[0]['content'] }}",
    )


def _clip(projection=True, width=16):
    config = transformers.CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=width,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return kind(config).eval()


def _t5(width=32):
    return transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=len(WORDS), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2
        )
    ).eval()


def _unet(width, extra=None, head=2):
    return diffusers.UNet2DConditionModel(
        sample_size=SIDE // 8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=head,
        **(extra or {}),
    ).eval()


def _sdxl(vae):
    extra = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 16 + 6 * 8,
        "use_linear_projection": True,
        "transformer_layers_per_block": (1, 1),
    }
    return diffusers.StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=_clip(False),
        text_encoder_2=_clip(),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        unet=_unet(32, extra),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
        ),
        add_watermarker=False,
    )


def _sd(vae):
    return diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=_clip(False),
        tokenizer=_tokenizer(),
        unet=_unet(16),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def of_classes():
    """A pipeline that makes pictures of classes and takes no text."""
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=SIDE // 8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        norm_num_groups=1,
    )
    scheduler = diffusers.DDIMScheduler()
    return diffusers.DiTPipeline(transformer.eval(), _vae("SD"), scheduler, id2label={0: "a circle"})


def _flux(vae):
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
    )
    return diffusers.FluxPipeline(
        vae=vae,
        text_encoder=_clip(False),
        tokenizer=_tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=_tokenizer(),
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )


def _sd3(vae):
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIDE // 8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=16,
    )
    return diffusers.StableDiffusion3Pipeline(
        vae=vae,
        text_encoder=_clip(),
        tokenizer=_tokenizer(),
        text_encoder_2=_clip(),
        tokenizer_2=_tokenizer(),
        text_encoder_3=_t5(),
        tokenizer_3=_tokenizer(),
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )


def _z_image(vae):
    transformer = diffusers.ZImageTransformer2DModel(
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[2, 2, 4],
        axes_lens=[64, 64, 64],
    )
    return diffusers.ZImagePipeline(
        vae=vae,
        text_encoder=_qwen3(),
        tokenizer=_tokenizer(),
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )


def _qwen3():
    config = transformers.Qwen3Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    return transformers.Qwen3Model(config).eval()


def _mistral():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(WORDS)}
    config = transformers.Mistral3Config(
        text_config={"model_type": "mistral", **sizes, **text},
        vision_config={
            "model_type": "pixtral", **sizes, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8
        },
        image_token_index=1,
    )  # fmt: skip
    return transformers.Mistral3ForConditionalGeneration(config).eval()


def _flux2_parts(guided):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = diffusers.AutoencoderKLFlux2(
        **blocks, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, sample_size=SIDE
    ).eval()
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    transformer = diffusers.Flux2Transformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=guided,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return {"vae": vae, "transformer": transformer.eval(), "scheduler": scheduler, "tokenizer": _tokenizer()}


def _flux2():
    return diffusers.Flux2KleinPipeline(**_flux2_parts(False), text_encoder=_qwen3(), is_distilled=True)


def _flux2_dev():
    parts = _flux2_parts(True)
    parts["tokenizer"].chat_template = "{{ messages[-1]['content'][0]['text'] }}"
    return diffusers.Flux2Pipeline(**parts, text_encoder=_mistral())


def _qwen_image():
    transformer = diffusers.QwenImageTransformer2DModel(
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(2, 2, 4),
    )
    made = diffusers.QwenImagePipeline(
        vae=diffusers.AutoencoderKLQwenImage(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval(),
        text_encoder=_qwen3(),
        tokenizer=_tokenizer(),
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )
    made.prompt_template_encode, made.prompt_template_encode_start_idx = "{}", 0
    return made
