"""How batches are filled once somebody else has decided who is next; and how the VTC authors' server does it.

The server of the artifact (S-LoRA's) prefills new requests in a batch of their own.  It looks for them at once if
nothing runs, else after ten batches of decodes; if then nobody fits, again after every further one.  A request fits if
the peak of memory, its output length known, stays below what is left beside 32 tokens per client, if at most 1000 run,
and if the prompts of the batch are at most a sixth of the memory, or 3072 tokens.  Here a lone one fits in any case.

Source: Ying1123/VTC-artifact (commit 192c2e2), as read in it.
"""

from __future__ import annotations

from enum import IntEnum

from policies.admission import resident, spare_blocks
from queueing.batch import ENTRIES, NONE, Batch, View, admit, blocks_for, free_blocks
from queueing.policy import active, is_decoding, kernel, prompt_if_admitted, serve_decodes, tokens_used

__all__ = ["Packing", "decode_all", "may_look_for_work", "start_artifact"]

STEPS = 3  # cell of `numbers` that counts batches of decodes since prompts were last prefilled
CADENCE = 10  # batches of decodes before the server looks for prompts
PER_CLIENT = 32  # tokens: four adapters' worth of rank 8, subtracted even where there is no adapter
MOST_RUNNING = 1000


class Packing(IntEnum):
    """What goes into one batch."""

    PURE = 0  # whole prompts, or decodes
    MIXED = 1  # every decode, and prompt chunks in what the token budget leaves

    def __repr__(self) -> str:
        return self.name


@kernel
def may_look_for_work(artifact: bool, numbers, view: View) -> bool:
    """Whether prompts may be admitted now: always, but in the artifact only when its turn has come."""
    return not artifact or len(view.running) == 0 or numbers[STEPS] >= CADENCE


@kernel
def decode_all(admission: int, numbers, view: View, batch: Batch) -> None:
    """If the batch holds no prompts yet, one token for every request that decodes; count such batches in a row."""
    if tokens_used(batch) > 0:
        numbers[STEPS] = 0
        return
    numbers[STEPS] += 1
    serve_decodes(view, batch, view.max_tokens, spare_blocks(admission))


@kernel
def start_artifact(view: View, batch: Batch, r) -> bool:
    """Admit `r` with its whole prompt by the server's own rule, if it fits."""
    memory = view.total_blocks * view.block_size
    prompt = prompt_if_admitted(view, r)
    if active(view, batch) >= min(MOST_RUNNING, view.max_running):
        return False
    if blocks_for(view, prompt) > free_blocks(batch) or tokens_used(batch) + prompt > view.max_tokens:
        return False
    if active(view, batch) > 0:  # the server would let a lone request that is too large wait for ever
        if tokens_used(batch) + prompt > max(memory // 6, 3072):
            return False
        if artifact_peak(view, batch, r) >= memory - PER_CLIENT * clients_in(view, batch, r):
            return False
    return admit(view, batch, r, prompt, prompt) > 0


@kernel
def used_and_left(view: View, r, j):
    """Tokens of the j-th resident `r` in memory, and tokens it may still generate, by the server's count."""
    if j < len(view.running) and is_decoding(view, r):
        return view.prompt[r] + view.decoded[r] - view.recomputed[r], view.predicted[r] - view.decoded[r] - 1
    return prompt_if_admitted(view, r) + 1, view.predicted[r] - 1


@kernel
def artifact_peak(view: View, batch: Batch, candidate):
    """Most tokens ever held if all end at their announced ends, one token each in every iteration."""
    residents = len(view.running) + batch.count[ENTRIES] + 1
    peak = 0
    for k in range(residents):
        r = resident(view, batch, candidate, k)
        if r == NONE:
            continue
        _, ahead = used_and_left(view, r, k)
        held, number = 0, 0
        for j in range(residents):
            q = resident(view, batch, candidate, j)
            if q != NONE:
                used, left = used_and_left(view, q, j)
                if left >= ahead:
                    held += used
                    number += 1
        peak = max(peak, held + number * ahead)
    return peak


@kernel
def clients_in(view: View, batch: Batch, candidate):
    """Clients with a resident request, `candidate` included."""
    residents = len(view.running) + batch.count[ENTRIES] + 1
    number = 0
    for k in range(residents):
        r = resident(view, batch, candidate, k)
        if r == NONE:
            continue
        first = True
        for j in range(k):
            q = resident(view, batch, candidate, j)
            if q != NONE and view.client[q] == view.client[r]:
                first = False
        number += 1 if first else 0
    return number
