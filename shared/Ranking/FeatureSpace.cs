using System.Text;

namespace Skiff.Ranking;

/// <summary>
/// How a context and an action become φ(x, a): the features of both, and by the app's interactions the products of pairs of them, each at its hash cut to so many bits, all together of length 1.
/// An interaction names two namespaces; <c>context</c> stands for every one of the context's (a slot's among them), <c>action</c> for every one of the action's.
/// </summary>
internal sealed class FeatureSpace
{
    /// <summary>Numbers of one φ that are not 0.</summary>
    public const int MostNumbers = 8_000;

    private readonly IReadOnlyList<(string First, string Second)> _interactions;
    private readonly uint _mask;

    public FeatureSpace(int bits, IReadOnlyList<(string First, string Second)> interactions, bool actionIds, double priorStrength)
    {
        Dimensions = 1 << bits;
        _mask = (uint)Dimensions - 1;
        _interactions = interactions;
        Id = VowpalHash.Murmur(Encoding.UTF8.GetBytes(FormattableString.Invariant(
            $"1 {bits} {actionIds} {priorStrength} {string.Join(' ', interactions.Select(pair => $"{pair.First.Length}:{pair.First}{pair.Second.Length}:{pair.Second}"))}")), 0);
    }

    /// <summary>d.</summary>
    public int Dimensions { get; }

    /// <summary>Tells one configuration of features from another: what was learnt on one means nothing on another.</summary>
    public uint Id { get; }

    /// <exception cref="RequestException">There are too many.</exception>
    public SparseVector Combine(IReadOnlyCollection<FeatureGroup> context, IReadOnlyCollection<FeatureGroup> action)
    {
        var features = new List<(int, float)>();
        foreach (var group in context.Concat(action))
        {
            foreach (var (hash, value) in group.Features) Add(hash, value);
        }
        foreach (var (first, second) in _interactions)
        {
            foreach (var a in Named(first))
            {
                foreach (var b in Named(second))
                {
                    foreach (var (hashA, valueA) in a.Features)
                    {
                        foreach (var (hashB, valueB) in b.Features) Add(VowpalHash.Cross(hashA, hashB), valueA * valueB);
                    }
                }
            }
        }
        return SparseVector.FromFeatures(features);

        void Add(uint hash, float value)
        {
            if (features.Count == MostNumbers) throw RequestException.Invalid($"context and action have more than {MostNumbers} features together, those that are crossed included: send fewer, or cross fewer namespaces");
            features.Add(((int)(hash & _mask), value));
        }

        IEnumerable<FeatureGroup> Named(string name) => name switch
        {
            "context" => context,
            "action" => action,
            _ => context.Concat(action).Where(group => group.Name == name),
        };
    }
}
