namespace Skiff.Benchmarks;

/// <summary>A request, ready to be sent, and the values that its answer must hold.</summary>
internal sealed record Exchange(byte[] Request, float[] Expected);

/// <summary>Requests that a load generator sends in turn, and how their answers are read; without a reader only the status is checked.</summary>
internal sealed record Workload(string Name, Exchange[] Exchanges, Func<HttpReply, float[]>? ReadValues)
{
    private const float Tolerance = 1e-4f;

    /// <summary>The same requests for a server whose answers mean nothing.</summary>
    public Workload Unread() => this with { ReadValues = null };

    /// <summary>Throws unless the reply holds the expected values, so that a wrong answer can't count as a quick one.</summary>
    public void Verify(Exchange sent, HttpReply reply)
    {
        if (ReadValues is null) return;
        var values = ReadValues(reply);
        var same = values.Length == sent.Expected.Length;
        for (var i = 0; same && i < values.Length; i++) same = Math.Abs(values[i] - sent.Expected[i]) <= Tolerance;
        if (!same) throw new BenchmarkException($"wrong answer to '{Name}': expected [{string.Join(", ", sent.Expected)}], got [{string.Join(", ", values)}]");
    }
}
