using System.Text;
using Skiff.Apps;
using Skiff.Cascades;
using Skiff.Selection;

namespace Skiff.Unit.Apps;

public sealed class AppDocumentTests
{
    private const string Input = "\"input\":{\"name\":\"x\",\"type\":\"FP32\",\"shape\":[4]}";
    private const string Two = "\"labels\":[\"a\",\"b\"]";

    [Fact]
    public void SmallestDocument_HasTheDefaultsItSays()
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"}]}""");

        Assert.Equal((20, DecisionStorage.Sealed, CacheDocument.Off), (app.ObjectiveMs, app.Decisions, app.Cache));
        Assert.Null(app.Default.Label);
        Assert.Null(app.Head);
    }

    [Fact]
    public void HeadWithoutStrengths_UsesOneForBoth()
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes"}}""");

        Assert.Equal((1, 1), (app.Head!.PriorStrength, app.Head.Forgetting));
    }

    [Fact]
    public void Guards_AreOnByDefault_AndCanBeTunedOrTurnedOff()
    {
        var plain = Head("");
        Assert.Equal((GuardDocument.Default, true), (plain.Guards, plain.Guards.IsOn));
        Assert.Equal(GuardDocument.Default, Head(""","guards":true""").Guards);
        Assert.False(Head(""","guards":false""").Guards.IsOn);
        var tuned = Head(""","guards":{"norm_clip":4,"residual_gate":null}""").Guards;
        Assert.Equal((4, (double?)null, 3600), (tuned.NormClip, tuned.ResidualGate, tuned.PerUserHour));

        static HeadDocument Head(string more) => Parse($$$"""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes"{{{more}}}}}""").Head!;
    }

    [Theory]
    [InlineData("", true, 1000)]
    [InlineData(",\"cache\":true", true, 1000)]
    [InlineData(",\"cache\":false", false, 0)]
    [InlineData(",\"cache\":{}", true, 1000)]
    [InlineData(",\"cache\":{\"max_age_ms\":0}", true, 0)]
    [InlineData(",\"cache\":{\"max_age_ms\":60000}", true, 60000)]
    public void HeadsCache_SaysHowOldAHeadMayBe(string more, bool isOn, double age)
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes"MORE}}""".Replace("MORE", more));

        Assert.Equal(new HeadCacheDocument(isOn, age), app.Head!.Cache);
        Assert.Equal(app.Head, AppDocument.Parse(app.ToJson()).Head);
    }

    [Fact]
    public void HeadsFormsAndGuards_AreWrittenAsTheyAreRead()
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes","forgetting":0.99,"detect_changes":true,"form":"diagonal","prior_fade":{"by":8,"labels":40},"guards":{"norm_clip":null,"residual_gate":6,"per_user_hour":10}}}""");

        Assert.Equal(app.Head, AppDocument.Parse(app.ToJson()).Head);
    }

    [Theory]
    [InlineData("""{"after_s":600,"label":1}""", 0, 1)]
    [InlineData("""{"after_s":0.2,"answer":"right"}""", 0, 0)]
    [InlineData("""{"after_s":600,"answer":"wrong"}""", 0, 1)]
    [InlineData("""{"after_s":600,"answer":"right"}""", -1, null)]
    [InlineData("""{"after_s":600,"label":1}""", -1, 1)]
    public void Silence_MeansWhatTheDocumentSays(string rule, int answered, int? label)
    {
        var app = Parse(WithSilence(rule));

        Assert.Equal((label, null), app.Feedback!.Implicit!.Of(answered));
        Assert.Equal(app.Feedback, AppDocument.Parse(app.ToJson()).Feedback);
    }

    [Theory]
    [InlineData("""{"after_s":0.05,"label":1}""", "0.1 to 518400 seconds")]
    [InlineData("""{"after_s":518401,"label":1}""", "0.1 to 518400 seconds")]
    [InlineData("""{"after_s":9}""", "one of 'label', 'value' and 'answer'")]
    [InlineData("""{"after_s":9,"label":1,"answer":"right"}""", "one of 'label', 'value' and 'answer'")]
    [InlineData("""{"after_s":9,"label":2}""", "one of the 2 labels")]
    [InlineData("""{"after_s":9,"value":0}""", "takes 'label' or 'answer'")]
    [InlineData("""{"after_s":9,"answer":"perhaps"}""", "implicit.answer")]
    [InlineData("""{"label":1}""", "after_s")]
    public void SilenceThatMeansNothing_IsRefused(string rule, string fragment) => Assert.Contains(fragment, Assert.Throws<FormatException>(() => Parse(WithSilence(rule))).Message);

    [Fact]
    public void Silence_NeedsWhatItSaysSomethingAbout()
    {
        Assert.Contains("two labels; here are 3", Refusal(WithSilence("""{"after_s":9,"answer":"wrong"}""").Replace("TWO", "\"labels\":[\"a\",\"b\",\"c\"]")));
        Assert.Contains("a 'head'", Refusal("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"}],"feedback":{"implicit":{"after_s":9,"label":1}}}"""));
        Assert.Contains("'rank.default_reward'", Refusal("""{"name":"a","rank":{},"feedback":{"implicit":{"after_s":9,"value":1}}}"""));
        Assert.Contains("FP32", Refusal("""{"name":"a",INPUT,"head":{"features":"f","kind":"regression"},"feedback":{"implicit":{"after_s":9,"value":1e300}}}"""));
        Assert.Contains("takes 'value'", Refusal("""{"name":"a",INPUT,"head":{"features":"f","kind":"regression"},"feedback":{"implicit":{"after_s":9,"answer":"right"}}}"""));
        Assert.Equal((null, 2.5), Parse("""{"name":"a",INPUT,"head":{"features":"f","kind":"regression"},"feedback":{"implicit":{"after_s":9,"value":2.5}}}""").Feedback!.Implicit!.Of(-1));

        static string Refusal(string json) => Assert.Throws<FormatException>(() => Parse(json)).Message;
    }

    private static string WithSilence(string rule) => $$$"""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes"},"feedback":{"implicit":{{{rule}}}}}""";

    [Theory]
    [InlineData("max_softmax", GateOn.MaxSoftmax)]
    [InlineData("margin", GateOn.Margin)]
    [InlineData("entropy", GateOn.Entropy)]
    public void Gates_AreReadByTheirNames(string name, GateOn on)
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"GATE","at":0.5}},{"model":"n","tier":"heavy"}]}""".Replace("GATE", name));

        Assert.Equal(new Gate(on, 0.5), app.Cascade[0].Gate);
        Assert.Equal(Tier.Heavy, app.Cascade[1].Tier);
    }

    [Fact]
    public void LearnedGate_IsReadAndWrittenBack()
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"learned","at":0.9,"weights":[1,2,3,4,-5.5],"temperature":1.5}},{"model":"n","tier":"heavy"}]}""");

        var again = AppDocument.Parse(app.ToJson());

        foreach (var gate in new[] { app.Cascade[0].Gate!, again.Cascade[0].Gate! })
        {
            Assert.Equal((GateOn.Learned, 0.9, 1.5), (gate.On, gate.At, gate.Temperature));
            Assert.Equal([1, 2, 3, 4, -5.5], gate.Weights!);
        }
        Assert.Equal(Tier.Heavy, again.Cascade[1].Tier);
    }

    [Fact]
    public void StageThatContinues_IsReadAndWrittenBack()
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"},{"model":"n","from":"h","gate":{"on":"margin","at":0.5}},{"model":"o","from":"g"}]}""");

        Assert.Equal([null, "h", "g"], app.Cascade.Select(stage => stage.From));
        Assert.Equal(app.Cascade, AppDocument.Parse(app.ToJson()).Cascade);
    }

    [Fact]
    public void WrittenDocument_ReadsBackTheSame()
    {
        var app = Parse("""{"name":"a",INPUT,"labels":["größer","+"],"objective_ms":7,"cache":true,"default":{"label":1},"cascade":[{"model":"m","gate":{"on":"max_softmax","at":0.5}},{"model":"n"}],"head":{"features":"f","kind":"classes","prior":"p","prior_strength":0.02}}""");

        var json = app.ToJson();

        Assert.Contains("größer", Encoding.UTF8.GetString(json));
        var again = AppDocument.Parse(json);
        Assert.Equal(app.Input.Shape, again.Input.Shape);
        Assert.Equal(app.Labels, again.Labels);
        Assert.Equal(app.Cascade, again.Cascade);
        Assert.Equal((app.Name, app.ObjectiveMs, app.Cache, app.Default, app.Head, app.Input.Type), (again.Name, again.ObjectiveMs, again.Cache, again.Default, again.Head, again.Input.Type));
    }

    [Theory]
    [InlineData("true", null)]
    [InlineData("{}", null)]
    [InlineData("""{"approximate":{"distance":1.5}}""", 1.5)]
    public void Cache_IsReadInBothForms(string cache, double? distance)
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"cache":CACHE,"cascade":[{"model":"m"}]}""".Replace("CACHE", cache));

        Assert.True(app.Cache.IsOn);
        Assert.Equal(distance, app.Cache.Approximate?.Distance);
        if (distance is not null) Assert.Equal((16, 4), (app.Cache.Approximate!.Bits, app.Cache.Approximate.Tables));
    }

    [Theory]
    [InlineData("null", "cache")]
    [InlineData("1", "'cache' takes true, false, or an object")]
    [InlineData("\"yes\"", "'cache' takes true, false, or an object")]
    [InlineData("""{"aproximate":{"distance":1}}""", "aproximate")]
    [InlineData("""{"approximate":{}}""", "distance")]
    [InlineData("""{"approximate":{"distance":0}}""", "'cache.approximate.distance' is 0")]
    [InlineData("""{"approximate":{"distance":1,"bits":65}}""", "'cache.approximate.bits' is 65")]
    [InlineData("""{"approximate":{"distance":1,"tables":0}}""", "'cache.approximate.tables' is 0")]
    [InlineData("""{"approximate":{"distance":1,"table":2}}""", "table")]
    public void InvalidCache_NamesTheFieldAndWhatItTakes(string cache, string expected)
    {
        var error = Assert.Throws<FormatException>(() => Parse("""{"name":"a",INPUT,TWO,"cache":CACHE,"cascade":[{"model":"m"}]}""".Replace("CACHE", cache)));

        Assert.Contains(expected, error.Message);
    }

    [Theory]
    [InlineData("""{"name":"a",INPUT,TWO,"cache":true,"head":{"features":"f","kind":"classes"}}""", "'cache' keeps what a 'cascade' answers")]
    [InlineData("""{"name":"a","input":{"name":"x","type":"INT64","shape":[4]},TWO,"cache":{"approximate":{"distance":1}},"cascade":[{"model":"m"}]}""", "'input.type' is 'INT64'")]
    [InlineData("""{"name":"a","input":{"name":"x","type":"FP32","shape":[1000000]},TWO,"cache":{"approximate":{"distance":1}},"cascade":[{"model":"m"}]}""", "at most 4194304")]
    public void CacheThatTheAppCannotHave_IsRefused(string json, string expected) => Assert.Contains(expected, Assert.Throws<FormatException>(() => Parse(json)).Message);

    [Theory]
    [InlineData("{}", "name")]
    [InlineData("null", "null")]
    [InlineData("[", "not a valid app document")]
    [InlineData("""{"name":"a b",INPUT,TWO,"cascade":[{"model":"m"}]}""", "not a valid app name")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"}],"objektive_ms":3}""", "objektive_ms")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"}],"objective_ms":0}""", "'objective_ms' is 0")]
    [InlineData("""{"name":"a",INPUT,TWO}""", "'cascade', a 'head', or both")]
    [InlineData("""{"name":"a",INPUT,"labels":["a","a"],"cascade":[{"model":"m"}]}""", "twice")]
    [InlineData("""{"name":"a",INPUT,"cascade":[{"model":"m"}]}""", "needs 'labels'")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"},{"model":"n"}]}""", "stage 0 of 'cascade' has no 'gate'")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"margin","at":0.5}}]}""", "nobody left to ask")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","from":"h"}]}""", "stage 0 of 'cascade' has 'from'")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"},{"model":"n","from":""}]}""", "stage 1 of 'cascade' has an empty 'from'")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"},{"model":"n","from":"h"},{"model":"o","gate":{"on":"margin","at":0.5}}]}""", "stage 1 of 'cascade' has no 'gate'")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"margin","at":1.5}},{"model":"n"}]}""", "from 0 to 1")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"learned","at":0.5}},{"model":"n"}]}""", "has 0 'weights': for 2 labels it takes 5")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"learned","at":0.5,"weights":[1,2]}},{"model":"n"}]}""", "has 2 'weights'")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"margin","at":0.5,"weights":[1,2,3,4,5]}},{"model":"n"}]}""", "only a gate on \"learned\"")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"margin","at":0.5,"temperature":0}},{"model":"n"}]}""", "it takes a positive number")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m","gate":{"on":"hunch","at":0.5}},{"model":"n"}]}""", "gate.on")]
    [InlineData("""{"name":"a","input":{"name":"x","type":"FP31","shape":[4]},TWO,"cascade":[{"model":"m"}]}""", "'input.type' is 'FP31'")]
    [InlineData("""{"name":"a","input":{"name":"x","type":"FP32","shape":[-1]},TWO,"cascade":[{"model":"m"}]}""", "positive dimensions")]
    [InlineData("""{"name":"a",INPUT,"labels":["a",null],"cascade":[{"model":"m"}]}""", "'labels' has a null")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[null]}""", "'cascade' has a null")]
    [InlineData("""{"name":"a",INPUT,"labels":null,"cascade":[{"model":"m"}]}""", "labels")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes","forgetting":1.5}}""", "'head.forgetting' is 1.5")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"regression"}}""", "neither 'labels'")]
    [InlineData("""{"name":"a",INPUT,"head":{"features":"f","kind":"classes"}}""", "needs 'labels'")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes","prior_fade":{"by":0.5,"labels":10}}}""", "'head.prior_fade.by' is 0.5")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes","guards":7}}""", "'guards' takes true, false, or an object")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes","guards":{"norm_clip":0.5}}}""", "'head.guards.norm_clip' is 0.5")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes","cache":"yes"}}""", "'cache' of a head takes true, false, or an object")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes","cache":{"max_age_ms":60001}}}""", "'head.cache.max_age_ms' is 60001: it takes 0 to 60000")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"ranking"}}""", "a head of kind 'ranking' takes neither 'labels'")]
    [InlineData("""{"name":"a",INPUT,TWO,"head":{"features":"f","kind":"classes","prior_strength":-1}}""", "'head.prior_strength' is -1")]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"../m"}]}""", "not a valid model name")]
    public void InvalidDocument_NamesTheFieldAndWhatItTakes(string json, string expected)
    {
        var error = Assert.ThrowsAny<Exception>(() => Parse(json));

        Assert.True(error is FormatException or Skiff.Store.InvalidNameException, error.ToString());
        Assert.Contains(expected, error.Message);
    }

    [Fact]
    public void Ensemble_IsReadAndWrittenBack()
    {
        var app = Parse("""{"name":"a",INPUT,TWO,"ensemble":{"members":["m","n"],"combine":"majority","calibration":[0.5,0.6,1,0.9],"floor":0.7,"policy":{"kind":"exp4","per":"context","share":0.01}}}""");

        var ensemble = AppDocument.Parse(app.ToJson()).Ensemble!;

        Assert.Equal(["m", "n"], ensemble.Members);
        Assert.Equal((CombineBy.Majority, 0.7, PolicyPer.Context), (ensemble.Combine, ensemble.Floor, ensemble.Policy!.Per));
        Assert.Equal([0.5, 0.6, 1, 0.9], ensemble.Calibration!);
        Assert.Equal(new Exp4 { Share = 0.01 }, ensemble.Policy.Create());
    }

    [Theory]
    [InlineData("exp3", typeof(Exp3))]
    [InlineData("exp4", typeof(Exp4))]
    [InlineData("epsilon_greedy", typeof(EpsilonGreedy))]
    [InlineData("thompson", typeof(ThompsonSampling))]
    public void Policies_AreReadByTheirNamesWithTheirOwnDefaults(string kind, Type type) =>
        Assert.Equal(Activator.CreateInstance(type), Parse("""{"name":"a",INPUT,TWO,"ensemble":{"members":["m"],"policy":{"kind":"KIND"}}}""".Replace("KIND", kind)).Ensemble!.Policy!.Create());

    [Theory]
    [InlineData("""{}""", "members")]
    [InlineData("""{"members":[]}""", "'ensemble.members' has 0 models: it takes 1 to 64")]
    [InlineData("""{"members":["m","m"]}""", "twice")]
    [InlineData("""{"members":["m",null]}""", "'ensemble.members' has a null")]
    [InlineData("""{"members":["../m"]}""", "not a valid model name")]
    [InlineData("""{"members":["m"],"combine":"median"}""", "combine")]
    [InlineData("""{"members":["m"],"combine":"weighted"}""", "needs 'weights', or a 'policy' of kind exp4")]
    [InlineData("""{"members":["m","n"],"combine":"weighted","weights":[1]}""", "'ensemble.weights' takes 2 numbers")]
    [InlineData("""{"members":["m","n"],"combine":"weighted","weights":[0,0]}""", "not all 0")]
    [InlineData("""{"members":["m","n"],"weights":[1,2]}""", "\"combine\" of weighted or majority")]
    [InlineData("""{"members":["m"],"floor":1.5}""", "'ensemble.floor' is 1.5")]
    [InlineData("""{"members":["m"],"temperature":0}""", "'ensemble.temperature' is 0")]
    [InlineData("""{"members":["m"],"temperature":2,"combine":"majority"}""", "a majority has votes")]
    [InlineData("""{"members":["m"],"calibration":[1,0.5,0.5,0.7]}""", "'ensemble.calibration' can't be used")]
    [InlineData("""{"members":["m"],"policy":{}}""", "kind")]
    [InlineData("""{"members":["m"],"policy":{"kind":"ucb"}}""", "kind")]
    [InlineData("""{"members":["m"],"policy":{"kind":"exp3","epsilon":0.1}}""", "'ensemble.policy.epsilon' is no constant of this kind: it takes learning_rate, share, exploration")]
    [InlineData("""{"members":["m"],"policy":{"kind":"exp3","exploration":2}}""", "'ensemble.policy' is 2: Exploration lies in")]
    [InlineData("""{"members":["m"],"policy":{"kind":"exp3"},"combine":"mean"}""", "nothing to combine")]
    [InlineData("""{"members":["m"],"policy":{"kind":"exp3"},"calibration":[0,0.5]}""", "runs alone: leave it out")]
    [InlineData("""{"members":["m"],"policy":{"kind":"exp4"},"combine":"mean"}""", "a mean has no weights for exp4")]
    [InlineData("""{"members":["m"],"policy":{"kind":"exp4"},"combine":"weighted","weights":[1]}""", "leave one of them out")]
    public void InvalidEnsemble_NamesTheFieldAndWhatItTakes(string ensemble, string expected)
    {
        var error = Assert.ThrowsAny<Exception>(() => Parse("""{"name":"a",INPUT,TWO,"ensemble":ENSEMBLE}""".Replace("ENSEMBLE", ensemble)));

        Assert.True(error is FormatException or Skiff.Store.InvalidNameException, error.ToString());
        Assert.Contains(expected, error.Message);
    }

    [Theory]
    [InlineData("""{"name":"a",INPUT,TWO,"cascade":[{"model":"m"}],"ensemble":{"members":["m"]}}""", "a 'cascade' or an 'ensemble', not both")]
    [InlineData("""{"name":"a",INPUT,"ensemble":{"members":["m"]}}""", "an 'ensemble' needs 'labels'")]
    [InlineData("""{"name":"a",INPUT,TWO,"cache":true,"ensemble":{"members":["m"]}}""", "'cache' keeps what a 'cascade' answers")]
    [InlineData("""{"name":"a",INPUT,TWO,"ensemble":{"members":["m"]},"head":{"features":"f","kind":"regression"}}""", "neither 'labels'")]
    public void EnsembleThatTheAppCannotHave_IsRefused(string json, string expected) => Assert.Contains(expected, Assert.Throws<FormatException>(() => Parse(json)).Message);

    private static AppDocument Parse(string json) => AppDocument.Parse(Encoding.UTF8.GetBytes(json.Replace("INPUT", Input).Replace("TWO", Two)));
}
