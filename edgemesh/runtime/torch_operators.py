"""The aten operators that a captured model may call.

The names of a received graph are looked up in this table and nowhere else. It holds operators that compute
their results from their arguments alone: none that writes to an argument, draws random numbers, returns
memory it did not fill (``empty``), reads outside its arguments (``as_strided``, ``_unsafe_index``) or makes
shapes from data (``nonzero``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from edgemesh.errors import ModelError

_NAMES = """
conv1d.default conv2d.default conv3d.default conv1d.padding conv2d.padding conv3d.padding
convolution.default conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input
linear.default mm.default bmm.default matmul.default mv.default addmm.default baddbmm.default einsum.default
dot.default outer.default scaled_dot_product_attention.default
lstm.input gru.input rnn_tanh.input rnn_relu.input

batch_norm.default layer_norm.default group_norm.default instance_norm.default rms_norm.default
native_layer_norm.default native_group_norm.default _native_batch_norm_legit_no_training.default

relu.default relu6.default gelu.default silu.default mish.default elu.default selu.default celu.default
leaky_relu.default prelu.default hardtanh.default hardswish.default hardsigmoid.default sigmoid.default
tanh.default softplus.default log_sigmoid.default glu.default hardshrink.default softshrink.default
threshold.default softmax.int _softmax.default log_softmax.int _log_softmax.default

max_pool1d.default max_pool2d.default max_pool3d.default max_pool2d_with_indices.default
avg_pool1d.default avg_pool2d.default avg_pool3d.default
adaptive_avg_pool1d.default adaptive_avg_pool2d.default adaptive_avg_pool3d.default
_adaptive_avg_pool2d.default adaptive_max_pool1d.default adaptive_max_pool2d.default

upsample_nearest1d.default upsample_nearest1d.vec upsample_nearest2d.default upsample_nearest2d.vec
upsample_nearest3d.vec _upsample_nearest_exact2d.vec upsample_linear1d.default upsample_linear1d.vec
upsample_bilinear2d.default upsample_bilinear2d.vec _upsample_bilinear2d_aa.vec upsample_trilinear3d.vec
upsample_bicubic2d.default upsample_bicubic2d.vec
pixel_shuffle.default pixel_unshuffle.default channel_shuffle.default
grid_sampler.default grid_sampler_2d.default

add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Tensor rsub.Scalar mul.Tensor mul.Scalar div.Tensor
div.Scalar div.Tensor_mode div.Scalar_mode true_divide.Tensor floor_divide.default floor_divide.Scalar
remainder.Tensor remainder.Scalar fmod.Tensor fmod.Scalar pow.Tensor_Tensor pow.Tensor_Scalar pow.Scalar
addcmul.default addcdiv.default lerp.Tensor lerp.Scalar
neg.default abs.default exp.default exp2.default expm1.default log.default log2.default log10.default
log1p.default sqrt.default rsqrt.default square.default reciprocal.default sin.default cos.default
tan.default asin.default acos.default atan.default atan2.default sinh.default cosh.default erf.default
erfc.default floor.default ceil.default round.default round.decimals trunc.default frac.default sign.default
isnan.default isinf.default isfinite.default nan_to_num.default
clamp.default clamp.Tensor clamp_min.default clamp_min.Tensor clamp_max.default clamp_max.Tensor
clip.default maximum.default minimum.default max.other min.other

eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor gt.Scalar
ge.Tensor ge.Scalar logical_and.default logical_or.default logical_not.default logical_xor.default
bitwise_and.Tensor bitwise_and.Scalar bitwise_or.Tensor bitwise_or.Scalar bitwise_xor.Tensor
bitwise_not.default where.self where.Scalar where.ScalarSelf where.ScalarOther
masked_fill.Scalar masked_fill.Tensor

sum.default sum.dim_IntList mean.default mean.dim prod.default prod.dim_int amax.default amin.default
max.default max.dim min.default min.dim argmax.default argmin.default any.default any.dim any.dims
all.default all.dim var.default var.dim var.correction var_mean.dim var_mean.correction
std.default std.dim std.correction std_mean.correction norm.Scalar norm.ScalarOpt_dim
linalg_vector_norm.default logsumexp.default cumsum.default cumprod.default topk.default sort.default
sort.stable argsort.default argsort.stable cosine_similarity.default

reshape.default flatten.using_ints unflatten.int view_as.default reshape_as.default
squeeze.default squeeze.dim squeeze.dims unsqueeze.default permute.default transpose.int t.default
movedim.int movedim.intlist swapaxes.default numpy_T.default expand.default expand_as.default
broadcast_to.default repeat.default repeat_interleave.self_int tile.default
select.int slice.Tensor narrow.default split.Tensor split.sizes split_with_sizes.default chunk.default
tensor_split.sections tensor_split.indices unbind.int unfold.default im2col.default col2im.default
cat.default concat.default stack.default hstack.default vstack.default flip.default roll.default
rot90.default diagonal.default tril.default triu.default constant_pad_nd.default pad.default
reflection_pad1d.default reflection_pad2d.default replication_pad1d.default replication_pad2d.default
index.Tensor index_select.default gather.default take_along_dim.default embedding.default one_hot.default
select_scatter.default slice_scatter.default scatter.src scatter.value index_put.default
masked_scatter.default

clone.default contiguous.default to.dtype to.dtype_layout to.device to.other _to_copy.default
type_as.default copy.default fill.Scalar fill.Tensor
arange.default arange.start arange.start_step full.default zeros.default ones.default
scalar_tensor.default full_like.default zeros_like.default ones_like.default new_zeros.default
new_ones.default new_full.default linspace.default eye.default eye.m meshgrid.default meshgrid.indexing
complex.default view_as_real.default view_as_complex.default real.default imag.default polar.default
fft_rfft.default fft_irfft.default
"""
ALLOWED = frozenset(f"aten.{name}" for name in _NAMES.split())
"""``aten.<operator>.<overload>`` of every operator that may be captured or run."""


def checked_targets(targets: set[str], model: str) -> None:
    """Raise ModelError naming the operators of ``model`` that are not allowed."""
    refused = sorted(targets - ALLOWED)
    if refused:
        shown = ", ".join(target[:80] for target in refused[:5])
        raise ModelError(
            f"model {model} uses {shown}, which edgemesh does not run (it allows operators that compute "
            "from their arguments alone): replace them in the model, or cut them off before adding it"
        )


def resolved(target: str, model: str) -> Callable[..., Any]:
    """The callable of an allowed operator; raises ModelError for any other name."""
    checked_targets({target}, model)
    function = _callables().get(target)
    if function is None:
        raise ModelError(
            f"model {model} uses {target}, which the torch of this device lacks: update torch here"
        )
    return function


@cache
def _callables() -> dict[str, Callable[..., Any]]:
    import torch

    table: dict[str, Callable[..., Any]] = {}
    for target in ALLOWED:
        # Only names of the table above are looked up as attributes. A name that this release of torch
        # does not know is left out: the model that uses it is refused, others run.
        _, operator, overload = target.split(".")
        found = getattr(getattr(torch.ops.aten, operator, None), overload, None)
        if found is not None:
            table[target] = found
    return table
