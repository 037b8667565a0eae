using Microsoft.Extensions.Logging;

namespace Skiff.Lambda;

/// <summary>Handles one invocation.</summary>
/// <param name="cancellation">Fires shortly before the deadline.</param>
/// <returns>The answer, JSON; null where it has been streamed.</returns>
public delegate Task<ReadOnlyMemory<byte>?> InvocationHandler(Invocation invocation, CancellationToken cancellation);

/// <summary>Next event, handle, respond: for as long as the process lives. It knows nothing of what is in an event.</summary>
public sealed class InvocationLoop(RuntimeApi api, LambdaOptions options, ILogger<InvocationLoop> log)
{
    /// <summary>Runs as many loops as invocations may run at once, until stopped; an invocation that has begun is still answered.</summary>
    /// <param name="settle">
    /// What is left to do between an answer and the next event; cancelled by the deadline. Asking for the next event is what allows Lambda to freeze the process, so work that went on in the
    /// background then stops halfway, for minutes or hours.
    /// </param>
    /// <exception cref="RuntimeApiException">The process should end.</exception>
    public async Task RunAsync(InvocationHandler handler, CancellationToken stopping, Func<CancellationToken, Task>? settle = null)
    {
        // When one loop finds that it is over, the others needn't wait for an event.
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(stopping);
        await Task.WhenAll(Enumerable.Range(0, options.Concurrency).Select(_ =>
            Task.Factory.StartNew(() => Loop(handler, settle, ending), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
    }

    private void Loop(InvocationHandler handler, Func<CancellationToken, Task>? settle, CancellationTokenSource ending)
    {
        try
        {
            while (!ending.IsCancellationRequested)
            {
                var invocation = api.Next(ending.Token);
                try
                {
                    Handle(invocation, handler, settle);
                }
                catch (RuntimeApiException e) when (!e.IsFatal)
                {
                    log.LogError("invocation {Id}: {Error}", invocation.Id, e.Message);
                }
            }
        }
        catch (OperationCanceledException) when (ending.IsCancellationRequested)
        {
        }
        catch
        {
            ending.Cancel();
            throw;
        }
    }

    private void Handle(Invocation invocation, InvocationHandler handler, Func<CancellationToken, Task>? settle)
    {
        // Where the SDK looks for it. It is one for the process, so invocations that run side by side do without.
        if (options.Concurrency == 1) Environment.SetEnvironmentVariable("_X_AMZN_TRACE_ID", invocation.TraceId);

        var left = invocation.Deadline - options.Time.GetUtcNow() - options.DeadlineMargin;
        using var deadline = new CancellationTokenSource(left > TimeSpan.Zero ? left : TimeSpan.Zero, options.Time);
        ReadOnlyMemory<byte>? answer;
        try
        {
            // Most answers are there by now; where one waits for something, this thread has nothing better to do.
            answer = handler(invocation, deadline.Token).GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is not RuntimeApiException)
        {
            var error = RuntimeError.Of(e, deadline.Token);
            // Where the message says it all, a stack trace would only hide it.
            log.LogError(e is InvalidEventException or OperationCanceledException ? null : e, "invocation {Id} failed: {Error}", invocation.Id, error.Message);
            api.Fail(invocation.Id, error, CancellationToken.None);
            return;
        }
        if (answer is { } json) api.Respond(invocation.Id, json, CancellationToken.None);
        if (settle is null) return;
        try
        {
            settle(deadline.Token).GetAwaiter().GetResult();
        }
        catch (Exception e)
        {
            // The answer is out; what was left may come of a later invocation.
            log.LogWarning("after invocation {Id}: {Error}", invocation.Id, e.Message);
        }
    }
}
