"""Times a GGUF file with llama-cpp-python: GGUF PROMPT TOKENS THREADS; prints one JSON object."""
import json
import sys
import time

try:
    from llama_cpp import Llama
except ImportError as error:
    sys.exit(f"llama-cpp-python is not installed here (pip install llama-cpp-python): {error}")

path = sys.argv[1]
prompt, tokens, threads = map(int, sys.argv[2:5])
start = time.perf_counter()
llm = Llama(model_path=path, n_ctx=prompt + tokens + 1, n_batch=512, n_threads=threads,
            n_threads_batch=threads, verbose=False)
loaded = time.perf_counter()


def ids(first, count):
    return [(100 + i % 97) % llm.n_vocab() for i in range(first, first + count)]


# What is read for the first time is not timed, as llama-bench does it.
llm.eval(ids(0, 1))
llm.reset()
begin = time.perf_counter()
llm.eval(ids(0, prompt))
prefill = time.perf_counter() - begin
steps = []
for i in range(tokens):
    begin = time.perf_counter()
    llm.eval(ids(prompt + i, 1))
    steps.append((time.perf_counter() - begin) * 1e3)
total = sum(steps)
steps.sort()


def rank(percent):
    return steps[max(-(-len(steps) * percent // 100) - 1, 0)]


print(json.dumps({
    "load_ms": (loaded - start) * 1e3, "ttft_ms": prefill * 1e3, "prefill_tok_s": prompt / prefill,
    "decode_tok_s": tokens / total * 1e3, "decode_ms_p50": rank(50), "decode_ms_p95": rank(95),
    "decode_ms_p99": rank(99),
}))
