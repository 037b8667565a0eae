namespace Skiff.Models;

/// <summary>A model file that is not passed on to the runtime; the message says what is wrong, where, and what is allowed.</summary>
public sealed class ModelRejectedException(string message) : Exception(message);
