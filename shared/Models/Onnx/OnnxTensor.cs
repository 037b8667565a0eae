namespace Skiff.Models;

/// <summary>A tensor whose values stand in the file, as many as its shape and type call for.</summary>
internal readonly ref struct OnnxTensor(ReadOnlySpan<byte> name, long elements)
{
    public ReadOnlySpan<byte> Name { get; } = name;

    public long Elements { get; } = elements;

    /// <summary>Reads a TensorProto. Its name may come last, so it is judged when all of it is read.</summary>
    public static OnnxTensor Read(ReadOnlySpan<byte> bytes, scoped OnnxNode owner)
    {
        ReadOnlySpan<byte> name = default;
        var (type, location, segment, external) = (0L, 0L, false, false);
        var volume = new Volume();
        var data = new TensorData();
        var reader = new MessageReader(bytes, OnnxMessage.TensorProto);
        while (reader.Next())
        {
            switch (reader.Name)
            {
                case "name":
                    name = reader.Bytes;
                    break;
                case "data_type":
                    type = reader.Integer;
                    break;
                case "dims":
                    volume.AddAll(reader.Bytes);
                    break;
                case "segment":
                    segment = true;
                    break;
                case "external_data":
                    external = true;
                    break;
                case "data_location":
                    location = reader.Integer;
                    break;
                case "raw_data":
                    data.Add(reader.Name, reader.Bytes.Length);
                    break;
                case "float_data" or "int32_data" or "string_data" or "int64_data" or "double_data" or "uint64_data":
                    data.Add(reader.Name, reader.Count);
                    break;
            }
        }

        var fault =
            external || location == 1 ? "keeps its data in another file (external data); all data has to stand in the model file"
            : location != 0 ? $"has the data_location {location}; only DEFAULT (0) is taken"
            : segment ? "is one segment of a larger tensor; only whole tensors are taken"
            : volume.Fault is { } wrong ? $"has {wrong}"
            : ElementType.Find(type) is not { } element ? $"has the element type {type}, which ONNX does not define"
            : data.Fault(element, volume.Elements);
        return fault is null ? new OnnxTensor(name, volume.Elements) : throw new ModelRejectedException($"Tensor {Quote.Of(name)} of {owner.Text} {fault}.");
    }

    /// <summary>Where a tensor's values stand, and how many.</summary>
    private struct TensorData
    {
        private string? _field, _second;
        private long _count; // bytes of raw_data, entries of the others

        public void Add(string field, int count)
        {
            // A packed list may be empty; raw_data that is empty still takes precedence over the lists.
            if (count == 0 && field != "raw_data")
                return;
            _field ??= field;
            if (_field != field)
                _second = field;
            _count += count;
        }

        public readonly string? Fault(ElementType type, long elements)
        {
            if (_second is not null)
                return $"has both {_field} and {_second}; only one may hold its data";
            if (_field == "raw_data" && type.IsString)
                return "is of type STRING and has raw_data; strings stand in string_data";
            if (_field is not null && _field != "raw_data" && _field != type.Field)
                return $"is of type {type.Name} and has {_field}; its data stands in {type.Field} or raw_data";
            var needed = _field == "raw_data" ? type.RawBytes(elements) : type.Entries(elements);
            if (needed == (UInt128)_count)
                return null;
            var unit = _field == "raw_data" ? "bytes in raw_data" : $"values in {type.Field}";
            return $"declares {elements} elements of {type.Name}, which are {needed} {unit}, and has {_count}";
        }
    }
}
