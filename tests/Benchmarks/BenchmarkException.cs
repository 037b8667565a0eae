namespace Skiff.Benchmarks;

/// <summary>A run that can't go on: a server that does not start, an answer that is wrong. The message is all that the reader gets.</summary>
internal sealed class BenchmarkException(string message) : Exception(message);
