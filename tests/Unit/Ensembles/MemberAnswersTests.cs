using Skiff.Ensembles;

namespace Skiff.Unit.Ensembles;

public sealed class MemberAnswersTests
{
    private static readonly uint Members = MemberAnswers.Identify(["a", "b", "c"]);

    [Fact]
    public void Answers_ComeBackToA255th_AndSureOnesTakeThreeBytes()
    {
        float[] said = [0.5f, 0.3f, 0.2f, 0, 0, 0, 0.001f, 0, 0.999f];

        var bytes = MemberAnswers.Write(Members, -1, said, 3, 0b101);

        var back = new float[9];
        Assert.Equal((-1, 0b101UL), MemberAnswers.Read(bytes, Members, back, 3));
        for (var i = 0; i < said.Length; i++) Assert.Equal(said[i], back[i], 1 / 255f);
        Assert.Equal(4 + 1 + 7 + 1 + 3, bytes.Length);
    }

    [Fact]
    public void ManyClasses_KeepTheLikeliestEight()
    {
        float[] said = [.. Enumerable.Range(0, 1000).Select(c => c is >= 300 and < 320 ? (c - 299) / 210f : 0)];

        var back = new float[1000];
        Assert.Equal((0, 1UL), MemberAnswers.Read(MemberAnswers.Write(Members, 0, said, 1000, 1), Members, back, 1000));

        Assert.Equal(Enumerable.Range(312, 8), Enumerable.Range(0, 1000).Where(c => back[c] > 0));
    }

    [Theory]
    [InlineData("")]
    [InlineData("01")]
    [InlineData("00000000000000")]
    public void WhatIsNotOfTheseMembers_IsNothing(string hex) => Assert.Null(MemberAnswers.Read(Convert.FromHexString(hex), Members, new float[9], 3));

    [Fact]
    public void AnswersCutOffAnywhere_AreNothing()
    {
        var bytes = MemberAnswers.Write(Members, -1, [0.5f, 0.3f, 0.2f, 1, 0, 0, 0, 0, 1], 3, 0b111);

        for (var length = 0; length < bytes.Length; length++) Assert.Null(MemberAnswers.Read(bytes[..length], Members, new float[9], 3));
        // A label that this app does not have.
        Assert.Null(MemberAnswers.Read(bytes, Members, new float[6], 2));
    }
}
