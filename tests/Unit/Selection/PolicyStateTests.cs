using Skiff.Selection;

namespace Skiff.Unit.Selection;

public sealed class PolicyStateTests
{
    [Fact]
    public void FiveMembers_TakeTwentyEightBytes() => Assert.Equal(28, new Exp4().Start(5).ToBytes().Length);

    /// <summary>The bytes are in stores: this test changes only with the version.</summary>
    [Fact]
    public void VersionOne_IsReadAsItWasWritten()
    {
        byte[] stored = [1, 3, 2, 0, 7, 0, 0, 0, /* 0.25, 0.5 */ 0, 0, 0x80, 0x3E, 0, 0, 0, 0x3F, /* 4, 3 */ 0, 0, 0x80, 0x40, 0, 0, 0x40, 0x40];

        var state = PolicyState.Read(stored);

        Assert.Equal((PolicyKind.EpsilonGreedy, 2, 7u), (state.Kind, state.Arms, state.Updates));
        Assert.Equal([0.25f, 0.5f, 4, 3], state.Values);
        Assert.Equal(stored, state.ToBytes());
    }

    [Theory]
    [InlineData(0, 2)] // another version
    [InlineData(1, 9)] // no such policy
    [InlineData(2, 0)] // no actions
    [InlineData(2, 65)] // too many
    [InlineData(2, 3)] // fewer bytes than its actions take
    [InlineData(3, 1)] // not zero
    [InlineData(11, 0xFF)] // NaN
    public void ChangedByte_IsRefused(int at, byte value)
    {
        var bytes = new Exp4().Start(2).ToBytes();
        bytes[at] = value;
        if (at == 11) bytes[10] = 0xC0;

        Assert.Throws<FormatException>(() => PolicyState.Read(bytes));
    }

    [Fact]
    public void AnyOtherLength_IsRefused()
    {
        var bytes = new ThompsonSampling().Start(3).ToBytes();

        for (var length = 0; length < bytes.Length; length++) Assert.Throws<FormatException>(() => PolicyState.Read(bytes.AsSpan(0, length)));
        Assert.Throws<FormatException>(() => PolicyState.Read([.. bytes, 0]));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(65)]
    public void NoActionsOrTooMany_AreRefused(int arms) => Assert.Throws<ArgumentOutOfRangeException>(() => new Exp3().Start(arms));
}
