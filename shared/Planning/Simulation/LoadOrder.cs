namespace Skiff.Planning.Simulation;

/// <summary>Instances in the order of their requests, kept by one swap for each that comes or goes: those with as many stand together, and where they begin is known.</summary>
internal sealed class LoadOrder
{
    private readonly int[] _order, _place, _load;
    private readonly List<int> _starts = [0]; // where loads of l begin; the list ends before the highest load + 1

    public LoadOrder(int count)
    {
        _order = [.. Enumerable.Range(0, count)];
        _place = [.. _order];
        _load = new int[count];
    }

    /// <summary>The least load, and how many have it: the first of <see cref="At"/>.</summary>
    public (int Load, int Count) Least()
    {
        var load = _load[_order[0]];
        return (load, EndOf(load));
    }

    public int At(int place) => _order[place];

    public void Add(int instance)
    {
        var load = _load[instance];
        var last = EndOf(load) - 1;
        Swap(instance, last);
        if (load + 1 == _starts.Count) _starts.Add(last);
        else _starts[load + 1] = last;
        _load[instance]++;
    }

    public void Remove(int instance)
    {
        var load = _load[instance];
        Swap(instance, _starts[load]);
        _starts[load]++;
        _load[instance]--;
        while (_starts[^1] == _order.Length) _starts.RemoveAt(_starts.Count - 1);
    }

    private int EndOf(int load) => load + 1 < _starts.Count ? _starts[load + 1] : _order.Length;

    private void Swap(int instance, int place)
    {
        var (other, from) = (_order[place], _place[instance]);
        (_order[from], _order[place]) = (other, instance);
        (_place[other], _place[instance]) = (from, place);
    }
}
