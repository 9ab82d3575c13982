"""The FUNCTION library that writes the projection. Each function tests the token, or the builder, before it writes."""

NAME = "tally_catalog"
SOURCE = f"""#!lua name={NAME}
local TOKEN, POSITION, BUILDING = 'catalog:token', 'catalog:position', 'catalog:building'

-- One resource: id, keys, sorts, fields; without any of them it is removed.
local function put(item)
  local tracker, hash = 'r:i:' .. item.id, 'r:' .. item.id
  local wanted = {{}}
  for _, key in ipairs(item.keys) do wanted[key] = true end
  for name, _ in pairs(item.sorts) do wanted['s:' .. name] = true end
  for _, key in ipairs(redis.call('SMEMBERS', tracker)) do
    if not wanted[key] then
      if string.sub(key, 1, 2) == 's:' then redis.call('ZREM', key, item.id)
      else redis.call('SREM', key, item.id) end
      redis.call('SREM', tracker, key)
    end
  end
  for _, key in ipairs(item.keys) do
    redis.call('SADD', key, item.id)
    redis.call('SADD', tracker, key)
  end
  for name, score in pairs(item.sorts) do
    redis.call('ZADD', 's:' .. name, score, item.id)
    redis.call('SADD', tracker, 's:' .. name)
  end
  redis.call('DEL', hash)
  if #item.fields > 0 then redis.call('HSET', hash, unpack(item.fields)) end
end

local function put_all(text)
  for _, item in ipairs(cjson.decode(text)) do put(item) end
end

-- Lists: key, ids that left, ids that entered with their scores.
local function put_lists(text)
  for _, list in ipairs(cjson.decode(text)) do
    for _, id in ipairs(list.removed) do redis.call('ZREM', list.key, id) end
    for place, id in ipairs(list.added) do redis.call('ZADD', list.key, list.scores[place], id) end
  end
end

-- token, position before, position behind, resources, lists
local function apply(_, args)
  if redis.call('GET', TOKEN) ~= args[1] then return 'no token' end
  if redis.call('GET', POSITION) ~= args[2] then return 'elsewhere' end
  put_all(args[4])
  put_lists(args[5])
  redis.call('SET', POSITION, args[3])
  return 'done'
end

-- id of the cluster
local function forget(_, args)
  local token = redis.call('GET', TOKEN)
  if token and string.match(token, '^[^:]*') ~= args[1] then return 'of another cluster' end
  redis.call('DEL', TOKEN)
  return 'done'
end

-- token, builder
local function begin(_, args)
  local token = redis.call('GET', TOKEN)
  if token and string.match(token, '^[^:]*') ~= string.match(args[1], '^[^:]*') then return 'of another cluster' end
  redis.call('DEL', TOKEN, POSITION)
  redis.call('SET', BUILDING, args[2])
  return 'done'
end

-- builder, keys to remove
local function clear(_, args)
  if redis.call('GET', BUILDING) ~= args[1] then return 'elsewhere' end
  for index = 2, #args do redis.call('UNLINK', args[index]) end
  return 'done'
end

-- builder, resources, lists
local function build(_, args)
  if redis.call('GET', BUILDING) ~= args[1] then return 'elsewhere' end
  put_all(args[2])
  put_lists(args[3])
  return 'done'
end

-- builder, token, position
local function finish(_, args)
  if redis.call('GET', BUILDING) ~= args[1] then return 'elsewhere' end
  redis.call('DEL', BUILDING)
  redis.call('SET', POSITION, args[3])
  redis.call('SET', TOKEN, args[2])
  return 'done'
end

redis.register_function('catalog_apply', apply)
redis.register_function('catalog_forget', forget)
redis.register_function('catalog_begin', begin)
redis.register_function('catalog_clear', clear)
redis.register_function('catalog_build', build)
redis.register_function('catalog_finish', finish)
"""
