namespace Skiff;

/// <summary>Why a request was not answered; each kind is one HTTP status (<see cref="RequestException.Status"/>).</summary>
public enum Refusal
{
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    TooLarge,
    Unsupported,
    Unavailable,

    /// <summary>Too much to do just now.</summary>
    Busy,
    DeadlineExceeded,
}

/// <summary>
/// A request that can't be answered, for a reason that its caller should read: <see cref="Exception.Message"/> says what was wrong and what is allowed.
/// Thrown deep inside decoders, where passing failure up as data would bury the grammar, and caught in one place, the adapter of each host.
/// </summary>
public sealed class RequestException(Refusal refusal, string message) : Exception(message)
{
    public Refusal Refusal { get; } = refusal;

    public int Status => Refusal switch
    {
        Refusal.Invalid => 400,
        Refusal.Unauthenticated => 401,
        Refusal.Forbidden => 403,
        Refusal.NotFound => 404,
        Refusal.TooLarge => 413,
        Refusal.Unsupported => 501,
        Refusal.Unavailable or Refusal.Busy => 503,
        Refusal.DeadlineExceeded => 504,
        _ => 500,
    };

    public static RequestException Invalid(string message) => new(Refusal.Invalid, message);

    public static RequestException NotFound(string message) => new(Refusal.NotFound, message);

    public static RequestException Unavailable(string message) => new(Refusal.Unavailable, message);
}
