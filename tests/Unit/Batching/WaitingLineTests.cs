using Skiff.Batching;
using Skiff.Models;

namespace Skiff.Unit.Batching;

public sealed class WaitingLineTests
{
    private readonly WaitingLine _line = new();

    [Fact]
    public void HigherPriorities_ThenNearerOnes_ComeFirst()
    {
        Add(3, 10);
        Add(5, 1);
        Add(3, 5);
        Add(1, 99);

        Assert.Equal([(1, 99L), (3, 5), (3, 10), (5, 1)], TakeAll());
    }

    [Fact]
    public void Rows_AreCountedToAPriority()
    {
        Add(1, 1, rows: 4);
        Add(3, 1, rows: 2);
        Add(5, 1, rows: -1); // what can't share a run counts as one

        Assert.Equal((4, 4, 6, 6, 7), (_line.RowsBefore(1), _line.RowsBefore(2), _line.RowsBefore(3), _line.RowsBefore(4), _line.RowsBefore(5)));
        Assert.Equal((7, 3), (_line.Rows, _line.Count));
        TakeAll();
        Assert.Equal((0, 0, 0), (_line.Rows, _line.Count, _line.RowsBefore(5)));
    }

    [Fact]
    public void WhoMakesPlace_IsOfTheLowestPriority_AndNobodyDoesForHisOwn()
    {
        Add(3, 1);
        Add(4, 2);
        Add(5, 9);
        Add(5, 3);

        Assert.Equal((5, 3L), Of(_line.TakeBelow(3)));
        Assert.Equal((5, 9L), Of(_line.TakeBelow(3)));
        Assert.Equal((4, 2L), Of(_line.TakeBelow(3)));
        Assert.Null(_line.TakeBelow(3));
        Assert.Equal(1, _line.Count);
    }

    [Fact]
    public void WhoIsGone_IsFoundBehindOthersToo()
    {
        Add(1, 100);
        Add(5, 1);
        Add(5, 2);
        Add(5, 50);
        var gone = new List<long>();

        _line.TakeGone((job, now) => job.Deadline < now ? new OperationCanceledException() : null, 10, (job, _) => gone.Add(job.Deadline));

        Assert.Equal([1L, 2], gone);
        Assert.Equal(2, _line.Count);
    }

    private void Add(int priority, long due, int rows = 1) =>
        _line.Enqueue(BatchJob.Rent(new TensorBuffer(), [], rows, 0, new Terms(due, priority), TimeSpan.Zero, CancellationToken.None), due);

    private static (int Priority, long Due) Of(BatchJob? job) => (job!.Priority, job.Deadline);

    private List<(int Priority, long Due)> TakeAll()
    {
        var all = new List<(int, long)>();
        while (_line.TryPeek(out var job, out var due))
        {
            all.Add((job.Priority, due));
            _line.Dequeue();
        }
        return all;
    }
}
