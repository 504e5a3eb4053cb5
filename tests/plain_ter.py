"""TER's alignment as sacreBLEU 2.6.0 makes it, written plainly, for sentences so short that its limits do not matter."""


def trace(hypothesis, reference):
    """(distance, steps): of equals a substitution goes before a deletion, and that before an insertion."""
    columns = len(reference) + 1
    cost = [list(range(columns))]
    step = [["i"] * columns]
    for i, word in enumerate(hypothesis, 1):
        cost.append([i])
        step.append(["d"])
        for j in range(1, columns):
            equal = word == reference[j - 1]
            ways = [(cost[i - 1][j - 1] + (not equal), " " if equal else "s"), (cost[i - 1][j] + 1, "d"), (cost[i][j - 1] + 1, "i")]
            best = min(ways, key=lambda way: way[0])  # the first of equals
            cost[i].append(best[0])
            step[i].append(best[1])
    steps, i, j = [], len(hypothesis), len(reference)
    while i > 0 or j > 0:
        steps.append(step[i][j])
        i, j = i - (steps[-1] != "i"), j - (steps[-1] != "d")
    return cost[-1][-1], steps[::-1]


def shifted(words, start, length, target):
    """Words [start, start + length) go before place `target`, which may lie among them."""
    span = words[start:start + length]
    if target < start:
        return words[:target] + span + words[target:start] + words[start + length:]
    passed = min(target - start - length if target > start + length else target - start, len(words) - start - length)
    rest = words[start + length:]
    return words[:start] + rest[:passed] + span + rest[passed:]


def best_shift(hypothesis, reference):
    """(start, length, target) of the shift that gains most; None if none gains."""
    distance, steps = trace(hypothesis, reference)
    align, wrong_here, wrong_there, here = [], [0], [0], 0
    for step in steps:
        if step != "i":
            wrong_here.append(wrong_here[-1] + (step != " "))
            here += 1
        if step != "d":
            wrong_there.append(wrong_there[-1] + (step != " "))
            align.append(here - 1)
    found = []
    for start in range(len(hypothesis)):
        for there in range(len(reference)):
            for length in range(1, 11):
                if start + length > len(hypothesis) or hypothesis[start:start + length] != reference[there:there + length]:
                    break
                if wrong_here[start + length] == wrong_here[start] or wrong_there[there + length] == wrong_there[there]:
                    continue
                if start <= align[there] < start + length:
                    continue
                for place in range(there - 1, min(there + length, len(reference))):
                    target = 0 if place == -1 else align[place] + 1
                    gain = distance - trace(shifted(hypothesis, start, length, target), reference)[0]
                    found.append((-gain, -length, start, target))
    if not found or min(found)[0] >= 0:
        return None
    _, length, start, target = min(found)
    return start, -length, target


def right_words(hypothesis, reference):
    """Which words of the hypothesis TER's alignment puts on an equal one of the reference."""
    places, right = list(range(len(hypothesis))), [False] * len(hypothesis)
    if not reference:
        return right
    while (shift := best_shift(hypothesis, reference)) is not None:
        hypothesis, places = shifted(hypothesis, *shift), shifted(places, *shift)
    kept = [step == " " for step in trace(hypothesis, reference)[1] if step != "i"]
    for place, good in zip(places, kept, strict=True):
        right[place] = good
    return right
