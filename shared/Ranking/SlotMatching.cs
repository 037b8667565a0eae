namespace Skiff.Ranking;

/// <summary>
/// Keeps several slots fillable while they are filled one after another, each with another action: a matching of all slots that are still open, by augmenting paths (Berge 1957), that follows what is chosen. O(slots² · actions) to begin, O(slots · actions) a choice.
/// </summary>
/// <param name="allowed">Whether a slot may have an action, by slot and action.</param>
internal sealed class SlotMatching(bool[][] allowed)
{
    private const int Nobody = -1, Closed = -2;

    /// <summary>By action: the slot that it is kept for, <see cref="Nobody"/>, or <see cref="Closed"/> where a slot has it.</summary>
    private readonly int[] _keptFor = [.. allowed[0].Select(_ => Nobody)];

    /// <summary>Keeps an action for each slot.</summary>
    /// <returns>The first slot that can't be filled beside those before it, with the others that it would have to share too few actions with; null where all can be filled.</returns>
    public (int Slot, IReadOnlyList<int> Others, IReadOnlyList<int> Actions)? TryBegin()
    {
        for (var slot = 0; slot < allowed.Length; slot++)
        {
            var seen = new bool[_keptFor.Length];
            if (TryKeep(slot, seen)) continue;
            // Each action that was looked at is kept for a slot, and those slots allow no action beside them (Hall 1935).
            List<int> actions = [.. Enumerable.Range(0, seen.Length).Where(action => seen[action])];
            return (slot, [.. actions.Select(action => _keptFor[action]).Order()], actions);
        }
        return null;
    }

    /// <returns>By action: whether the slot may have it so that all slots after it can still be filled. At least one.</returns>
    public bool[] OpenTo(int slot)
    {
        // What is kept for this slot is free for it, and for others if it takes something else. An action is open to it where whoever it is kept for finds another: backwards from the free ones.
        var open = new bool[_keptFor.Length];
        var free = new Queue<int>();
        for (var action = 0; action < open.Length; action++)
        {
            if (_keptFor[action] != Nobody && _keptFor[action] != slot) continue;
            open[action] = true;
            free.Enqueue(action);
        }
        while (free.TryDequeue(out var other))
        {
            for (var action = 0; action < open.Length; action++)
            {
                if (open[action] || _keptFor[action] < 0 || !allowed[_keptFor[action]][other]) continue;
                open[action] = true;
                free.Enqueue(action);
            }
        }
        for (var action = 0; action < open.Length; action++) open[action] &= allowed[slot][action];
        return open;
    }

    /// <summary>The slot has it now; slots are filled in their order.</summary>
    /// <param name="action">One that is open to it.</param>
    public void Take(int slot, int action)
    {
        var evicted = _keptFor[action];
        if (Array.IndexOf(_keptFor, slot) is >= 0 and var released) _keptFor[released] = Nobody;
        _keptFor[action] = Closed;
        if (evicted >= 0 && evicted != slot && !TryKeep(evicted, new bool[_keptFor.Length])) throw new ArgumentException($"action {action} is not open to slot {slot}", nameof(action));
    }

    private bool TryKeep(int slot, bool[] seen)
    {
        for (var action = 0; action < seen.Length; action++)
        {
            if (seen[action] || !allowed[slot][action] || _keptFor[action] == Closed) continue;
            seen[action] = true;
            if (_keptFor[action] != Nobody && !TryKeep(_keptFor[action], seen)) continue;
            _keptFor[action] = slot;
            return true;
        }
        return false;
    }
}
