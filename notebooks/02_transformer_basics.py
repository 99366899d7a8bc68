# %% [markdown]
# # Attention and transformers
#
# In about 15 minutes you compute attention by hand, see that a causal mask hides the future, look
# at the attention weights of a small language model on a sentence of yours, change the
# temperature of its next token, and classify a sentence. The code is that of [lesson
# 2](../02_transformer_basics/README.md), which explains it; the models are bundled with the lab.
# Equations have the numbers of Vaswani et al. (2017).
#
# Run the cells from top to bottom with Shift+Enter. A line with `@param` holds a value that is
# yours to change: edit it (on Colab, use the form), then run its cell and those below again.
# `assert` lines check what the text claims.

# %%
# On Colab this cell fetches the lab and installs it; elsewhere it is installed already.
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = "<this repository>"  # the address that `git clone` takes
CLONE = Path.home() / "pytorch-learning-lab"
if "google.colab" in sys.modules:
    if not CLONE.exists():
        if REPOSITORY.startswith("<"):
            raise RuntimeError(
                "set REPOSITORY to the address of the lab's repository, and try again"
            )
        subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, CLONE], check=True)
    lines = (CLONE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith("torch==")]
    install = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *pins, "-e", CLONE], check=True)  # Colab has its own PyTorch
    sys.path.insert(0, str(CLONE))  # this process started before the installation

import lab.projects  # noqa: F401 - puts the folders of the lessons on the search path

os.chdir(tempfile.mkdtemp(prefix="lab_notebook_"))  # for the files that this notebook writes

# %% [markdown]
# ## Attention by hand
#
# $$\text{Attention}(Q, K, V) = \text{softmax}\bigl(Q K^\top / \sqrt{d_k}\bigr) \, V \qquad
# \text{(eq. 1)}$$
#
# Every position has a query, a key and a value. A query is compared with every key by a dot
# product; the softmax turns each row of scores into weights that sum to 1; the output is the
# weighted average of the values. These are three lines, and they equal PyTorch's own function and
# the lab's.

# %%
import math

import torch
import torch.nn.functional as F

from transformer_block import attention

positions = 5  # @param {"type": "slider", "min": 2, "max": 8, "step": 1}
d_k = 16  # @param {"type": "slider", "min": 1, "max": 64, "step": 1}

torch.manual_seed(0)
query, key, value = torch.randn(3, 1, 1, positions, d_k)  # (B, H, T, D) each, with B = H = 1

scores = query @ key.transpose(-2, -1)  # (B, H, T, D) @ (B, H, D, T) -> (B, H, T, T)
weights = (scores / math.sqrt(d_k)).softmax(dim=-1)  # (B, H, T, T): each row sums to 1
output = weights @ value  # (B, H, T, T) @ (B, H, T, D) -> (B, H, T, D)
print(weights[0, 0].round(decimals=2))

torch.testing.assert_close(output, F.scaled_dot_product_attention(query, key, value))
torch.testing.assert_close(output, attention(query, key, value)[0])
torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 1, positions))

# %% [markdown]
# Why the division by √d_k? A score is a sum of d_k products, so its standard deviation grows with
# √d_k. Without the division, one weight of a row gets nearly everything: the softmax is
# saturated, and its gradient vanishes.

# %%
many_queries, many_keys = torch.randn(2, 1000, d_k)  # (1000, D) each
raw = many_queries @ many_keys.T  # (1000, D) @ (D, 1000) -> (1000, 1000)
scaled = raw / math.sqrt(d_k)
print(f"standard deviation of the scores: {raw.std():.2f}, divided: {scaled.std():.2f}")
for name, each in (("without", raw), ("with", scaled)):
    largest = each[:, :8].softmax(dim=-1).amax(dim=-1)  # (1000, 8) -> (1000,)
    print(f"largest of 8 weights, {name} the division: {largest.mean():.2f} on average")

assert abs(scaled.std() - 1) < 0.15

# %% [markdown]
# ## The causal mask
#
# A language model predicts the next token, so no position may see a later one. A mask is True
# where attention is allowed; the scores of all other pairs do not count. So nothing that changes
# in the last position can change an earlier output.

# %%
from transformer_block import causal_mask

mask = causal_mask(positions)  # (T, T)
masked_output, masked_weights = attention(query, key, value, mask)
print(masked_weights[0, 0].round(decimals=2))

key[..., -1, :] += 10  # another last token
value[..., -1, :] += 10
changed_output, _ = attention(query, key, value, mask)

assert (masked_weights.triu(diagonal=1) == 0).all()
torch.testing.assert_close(changed_output[..., :-1, :], masked_output[..., :-1, :])
assert not torch.allclose(changed_output[..., -1, :], masked_output[..., -1, :])

# %% [markdown]
# The same for a sentence whose queries and keys were set by hand: pronouns look for their noun,
# verbs for their subject and object. A row shows where one word looks. On the right, no word sees
# a later one.

# %%
from IPython.display import Image

from lab.attention_plots import draw_example

draw_example(Path("example.png"), attention)
Image("example.png", width=900)

# %% [markdown]
# ## Where a trained model looks
#
# Nobody set the weights of this model by hand: it learned to predict the next token of old books.
# It is a GPT-2 with 4.6 million parameters, stored in 9 MB. Type a sentence, and look at one of
# its heads.

# %%
from engines import load_own
from lab.attention_plots import draw_head
from models.hub import GENERATION

sentence = "The old man looked at the sea and"  # @param {"type": "string"}
layer = 3  # @param {"type": "slider", "min": 0, "max": 4, "step": 1}
head = 1  # @param {"type": "slider", "min": 0, "max": 3, "step": 1}

language = load_own(GENERATION, GENERATION.bundled, "the bundled language model")
input_ids = torch.tensor(language.tokenizer([sentence])["input_ids"])  # (1, T)
tokens = [language.tokenizer.decode([token]) for token in input_ids[0].tolist()]
with torch.inference_mode():
    internals = language.model.forward_with_internals(input_ids)
draw_head(internals.attentions, layer, head, tokens, Path("head.png"), causal=True)

assert 4.6e6 < sum(weights.numel() for weights in language.model.parameters()) < 4.7e6
assert len(internals.attentions) == language.model.config.n_layer
for head_weights in internals.attentions:  # (1, H, T, T)
    torch.testing.assert_close(head_weights.sum(dim=-1), torch.ones(head_weights.shape[:-1]))
Image("head.png", width=560)

# %% [markdown]
# ## The next token
#
# The model's output is one number for each token of its vocabulary, a logit. Divided by the
# temperature, they go through a softmax. Below 1, the most likely tokens get even more; above 1,
# the distribution gets flatter. The order stays the same.

# %%
from models.generation import Sampling, token_probabilities

temperature = 0.7  # @param {"type": "slider", "min": 0.1, "max": 2, "step": 0.1}

logits = internals.logits[:, -1]  # (1, T, V) -> (1, V)
plain = token_probabilities(logits, input_ids, None, Sampling(1.0))[0]  # (V,)
sampled_from = token_probabilities(logits, input_ids, None, Sampling(temperature))[0]  # (V,)
top = plain.topk(8).indices  # (V,) -> (8,)

torch.testing.assert_close(sampled_from.sum(), torch.tensor(1.0))
torch.testing.assert_close(sampled_from, (logits[0] / temperature).softmax(dim=-1))
assert torch.equal(sampled_from.argmax(), plain.argmax())
assert (sampled_from.max() >= plain.max()) == (temperature <= 1)

# %%
from lab.plots import BLUE, GREY, drawable, new_figure, save_figure

figure, (axes,) = new_figure(height=3.2)
places = torch.arange(len(top))
axes.bar(places - 0.2, plain[top], 0.4, color=GREY, label="temperature 1")
axes.bar(places + 0.2, sampled_from[top], 0.4, color=BLUE, label=f"temperature {temperature:g}")
names = [repr(language.tokenizer.decode([token])) for token in top.tolist()]
axes.set_xticks(places, [drawable(name) for name in names])
axes.set(title=drawable(f"next token after {sentence!r}"), ylabel="probability")
axes.legend()
save_figure(figure, Path("next_token.png"))
Image("next_token.png", width=640)

# %% [markdown]
# To continue a text, sample a token, append it, and repeat. At temperature 0 the most likely
# token is taken each time, so the text is always the same. How well does the model write at your
# temperature?

# %% tags=["parameters"]
new_tokens = 40

# %%
from models.generation import generate

generator = torch.Generator().manual_seed(0)
for each in (0.0, temperature):
    ids = generate(
        language.model,
        input_ids,
        max_new_tokens=new_tokens,
        sampling=Sampling(each),
        generator=generator,
    )  # (1, T + new tokens)
    print(f"--- temperature {each:g}\n{language.tokenizer.decode(ids[0].tolist())}")
    if each == 0:
        assert ids[0, len(tokens)] == plain.argmax()
    assert ids.shape[1] == len(tokens) + new_tokens

# %% [markdown]
# ## A classifier
#
# DistilBERT has the same blocks without the causal mask, and a classifier on the first position.
# The bundled one was trained on short reviews. Which words decide? Integrated gradients give each
# word its part of the change from "all words masked" to this sentence; the parts sum to the whole
# change.

# %%
from models.hub import SENTIMENT
from sentiment.attribution import explain

review = "A wonderful film, although the beginning is a little slow."  # @param {"type": "string"}

classifier = load_own(SENTIMENT, SENTIMENT.bundled, "the bundled sentiment model")
explanation = explain(classifier, review)
masked = explanation.baseline_score
print(f"{explanation.label}: {explanation.score:.1%}; with all words masked: {masked:.1%}")
for word, attribution in explanation.attributions():
    bar = ("+" if attribution > 0 else "-") * round(40 * abs(attribution))
    print(f"{word:>12} {attribution:+.3f} {bar}")

total = sum(attribution for _, attribution in explanation.attributions())
assert abs(total - (explanation.score - masked)) < 0.01
examples = classifier.tokenizer(["What a wonderful film!", "I want my money back."])["input_ids"]
predicted = classifier.model.predict(examples).argmax(dim=-1)  # (N, C) -> (N,)
labels = [classifier.model.labels[number] for number in predicted.tolist()]
assert labels == ["POSITIVE", "NEGATIVE"]

# %% [markdown]
# ## Change it
#
# - `d_k = 64`: compare the weights with and without the division.
# - Other heads: layer 3, head 0 looks at the token before, most of the time; layer 1, head 3 at
#   the first one. What do others do, and does it hold for your sentence?
# - `temperature = 2`, then `0.1`: at which one would you read on?
# - A review that is ironic, or that denies: "not bad at all". What does the classifier make of
#   it, and which words decide?
#
# ## Do it yourself
#
# The first exercise of the lesson. Write the function, run its cell, which saves it to a file,
# and then the check: it runs your function, the right one and all known wrong ones, and says
# which of them yours equals.

# %% tags=["active-ipynb", "exercise"]
# %%writefile softmax.py
# """Exercise 2.1: softmax
#
# Turn numbers into weights: positive, in the same order, and with the sum 1 along one
# dimension; also where the numbers are in the thousands.
#
# Check it: lab check softmax
# """
#
# import torch
# from torch import Tensor
#
#
# def softmax(x: Tensor, dim: int) -> Tensor:
#     """The softmax of x over one of its dimensions: positive numbers that sum to 1 over `dim`."""
#     # exp(1000) is infinite. Less the largest number, the quotients are the same and exp is at most 1.
#     raise NotImplementedError("write your code here, and remove this line")

# %% tags=["active-ipynb"]
# !"{sys.executable}" -m lab check softmax --file softmax.py

# %% [markdown]
# To go on, open a terminal in the lab's folder: `lab exercises start` writes a file for every
# exercise, `lab check attention --watch` checks yours at every save, and `lab hint attention`
# gives a hint.
