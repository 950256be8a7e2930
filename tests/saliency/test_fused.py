"""What is said twice, to torch and to a GPU's compiler, is the same."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import warnings

import pytest
import torch
from torch.testing import assert_close

from gcc_search.saliency import fused as module
from gcc_search.saliency import losses, ssim
from gcc_search.saliency.fused import Fused, fused

FUNCTIONS = {
    function.__name__: function
    for function in (ssim.similarity_with_gradient, losses.worth_of_unit, losses._unstretched, losses._powers)
}
COMPILER = shutil.which("c++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: a GPU's formulas are not tried here")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use: nothing is fused")


def draw(function: Fused, device: str = "cpu") -> tuple[list[torch.Tensor], dict[str, float]]:
    """Inputs of either sign, some of them equal and some extreme, and numbers that are not the usual ones."""
    generator = torch.Generator().manual_seed(0)
    tensors = torch.randn(function.num_tensors, 1000, dtype=torch.float64, generator=generator)
    tensors[:, :20] = 1.5
    tensors[-1, 20:40], tensors[-1, 40:60] = torch.inf, torch.nan
    return list(tensors.to(device)), {name: number + 0.01 for name, number in function.numbers.items()}


def results(found: torch.Tensor | tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [found] if isinstance(found, torch.Tensor) else list(found)


def run_compiled(function: Fused, folder, tensors, numbers) -> list[torch.Tensor]:
    inputs = [f"in[{i} * n + i_]" for i in range(len(tensors))] + [f"numbers[{i}]" for i in range(len(numbers))]
    outputs = [f"out[{i} * n + i_]" for i in range(function.outputs)]
    name = function.code.split("void ")[1].split("(")[0]
    source = f"""#include <cmath>
{function.code}
extern "C" void run(const double* in, const double* numbers, double* out, long n) {{
  for (long i_ = 0; i_ < n; ++i_) {name}<double>({", ".join(inputs + outputs)});
}}"""
    (folder / "code.cpp").write_text(source)
    command = [COMPILER, "-O1", "-shared", "-fPIC", "-o", str(folder / "code.so"), str(folder / "code.cpp")]
    subprocess.run(command, check=True)
    given, count = torch.stack(tensors), tensors[0].numel()
    out = torch.empty(function.outputs, count, dtype=torch.float64)
    values = (ctypes.c_double * len(numbers))(*numbers.values())
    run = ctypes.CDLL(str(folder / "code.so")).run
    run(ctypes.c_void_p(given.data_ptr()), values, ctypes.c_void_p(out.data_ptr()), ctypes.c_long(count))
    return list(out)


@needs_compiler
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_code_says_what_the_function_says(name, tmp_path):
    function = FUNCTIONS[name]
    tensors, numbers = draw(function)
    expected = results(function.plain(*tensors, **numbers))
    assert_close(run_compiled(function, tmp_path, tensors, numbers), expected, rtol=1e-10, atol=1e-12, equal_nan=True)


@needs_cuda
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gpu_finds_what_the_function_finds(name):
    function = FUNCTIONS[name]
    tensors, numbers = draw(function, "cuda")
    expected = results(function.plain(*tensors, **numbers))
    assert_close(results(function(*tensors, **numbers)), expected, rtol=1e-10, atol=1e-12, equal_nan=True)


def test_who_cannot_compile_is_told_once_and_goes_on(monkeypatch):
    def fail(code: str, outputs: int):
        raise RuntimeError("no compiler")

    @fused("template <typename T> void twice(T a, T& b) { b = a + a; }", outputs=1)
    def twice(a: torch.Tensor) -> torch.Tensor:
        return a + a

    monkeypatch.setattr(module, "is_fused", lambda tensor: True)
    monkeypatch.setattr(module, "_create_multi_output_jit_fn", fail)
    with pytest.warns(UserWarning, match=r"^twice is not compiled for this GPU, and takes longer: no compiler$"):
        assert twice(torch.ones(1)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert twice(torch.ones(1)) == 2
